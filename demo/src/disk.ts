// The browser's own file system, where the model and the chat outlive the page.

async function folder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle('gear-kv', { create: true });
}

/** Writes a file; under its name there is the old content or the new one, never a part. */
export async function write(name: string, content: Blob | Uint8Array<ArrayBuffer> | string): Promise<void> {
  const file = await (await folder()).getFileHandle(name, { create: true });
  const writable = await file.createWritable();
  try {
    await writable.write(content);
    await writable.close();
  } catch (error) {
    await writable.abort().catch(() => {});
    throw error;
  }
}

/** A file, or undefined where there is none. */
export async function read(name: string): Promise<File | undefined> {
  try {
    return await (await (await folder()).getFileHandle(name)).getFile();
  } catch {
    return undefined;
  }
}
