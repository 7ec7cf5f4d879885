import { builtin } from './backend/runtime.js';
import { joined } from './byte-stream.js';
import { describe, GearError } from './errors.js';
import { hiddenName, isLeftBehind, whereabouts } from './left-behind.js';

type Fs = NonNullable<ReturnType<typeof fileSystem>>;

function fileSystem() {
  const fs = builtin('node:fs');
  const path = builtin('node:path');
  const url = builtin('node:url');
  return fs && path && url && { ...fs.promises, ...path, fileURLToPath: url.fileURLToPath };
}

function required(): Fs {
  const fs = fileSystem();
  if (fs === undefined) {
    throw new GearError(
      'IO_FAILED',
      'files need Node, Deno or Bun; in a browser keep the bytes of toBytes() or toStream() in OPFS or IndexedDB',
    );
  }
  return fs;
}

function pathOf(fs: Fs, location: unknown): string {
  try {
    if (typeof location === 'string' && location !== '') return location;
    if (location instanceof URL) return fs.fileURLToPath(location);
  } catch (cause) {
    throw new GearError('IO_FAILED', `${String(location)} is not a file: URL`, { cause });
  }
  throw new GearError('INVALID_OPTION', `path is ${describe(location)}; expected a path or a file: URL`);
}

/** Reads a whole file. */
export async function readFileBytes(location: string | URL): Promise<Uint8Array> {
  const fs = required();
  const path = pathOf(fs, location);
  try {
    const { buffer, byteOffset, byteLength } = await fs.readFile(path);
    // A plain array: the slice() of Node's Buffer is a view, where everybody else's is a copy.
    return new Uint8Array(buffer, byteOffset, byteLength);
  } catch (cause) {
    throw failed('read', path, cause);
  }
}

/** A file's bytes, some at a time: in arrays of their own or, with `into`, all in that one, for who needs none of them later. */
export async function* fileChunks(
  location: string | URL,
  size: number,
  into?: Uint8Array<ArrayBuffer>,
): AsyncGenerator<Uint8Array> {
  const { read, close } = await opened(location);
  try {
    for (;;) {
      const bytes = await read(size, null, into);
      if (bytes.length === 0) return;
      yield bytes;
    }
  } finally {
    await close();
  }
}

/** Hands out a file's bytes from where it is asked, as many as asked for or all that there are. */
export async function fileHead<Result>(
  location: string | URL,
  use: (bytes: (start: number, length: number) => Promise<Uint8Array>) => Promise<Result>,
): Promise<Result> {
  const { read, close } = await opened(location);
  try {
    return await use(async (start, length) => {
      const bytes: Uint8Array[] = [];
      for (let missing = length; missing > 0; ) {
        // A length that a file only claims must not be allocated.
        const piece = await read(Math.min(missing, 1 << 20), start + length - missing);
        if (piece.length === 0) break;
        bytes.push(piece);
        missing -= piece.length;
      }
      return joined(bytes);
    });
  } finally {
    await close();
  }
}

async function opened(location: string | URL) {
  const fs = required();
  const path = pathOf(fs, location);
  const refuse = (cause: unknown): never => {
    throw failed('read', path, cause);
  };
  const file = await fs.open(path, 'r').catch(refuse);
  return {
    read: async (length: number, position: number | null, into = new Uint8Array(length)): Promise<Uint8Array> => {
      const { buffer, bytesRead } = await file.read(into, 0, length, position).catch(refuse);
      return buffer.subarray(0, bytesRead);
    },
    close: () => file.close(),
  };
}

/** True where something is there. */
export async function fileExists(location: string): Promise<boolean> {
  const fs = required();
  return fs.lstat(location).then(
    () => true,
    () => false,
  );
}

/** Writes beside the file, waits until that is on the disk, then moves it into place. */
export async function writeFileAtomically(
  location: string | URL,
  content: Uint8Array | AsyncIterable<Uint8Array>,
): Promise<void> {
  const fs = required();
  const path = pathOf(fs, location);
  const beside = fs.join(fs.dirname(path), hiddenName(fs.basename(path)));
  try {
    const file = await fs.open(beside, 'wx');
    try {
      for await (const bytes of content instanceof Uint8Array ? [content] : content) {
        for (let written = 0; written < bytes.length; ) {
          written += (await file.write(bytes, written)).bytesWritten;
        }
      }
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(beside, path);
    await syncFolder(fs, fs.dirname(path));
  } catch (cause) {
    await fs.rm(beside, { force: true }).catch(() => {});
    if (cause instanceof GearError) throw cause;
    throw failed('written', path, cause);
  }
}

/** Writes a file as {@link writeFileAtomically} does, and clears away what killed processes left while they wrote this one. */
export async function saveFile(location: string | URL, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<void> {
  await writeFileAtomically(location, content);
  await removeLeftBehind(location);
}

/** Of no consequence where it fails. */
async function removeLeftBehind(location: string | URL): Promise<void> {
  if (whereabouts() === '') return;
  const fs = required();
  const path = pathOf(fs, location);
  const [folder, name] = [fs.dirname(path), fs.basename(path)];
  const names = await fs.readdir(folder).catch(() => []);
  for (const left of names.filter((other) => isLeftBehind(other, name))) {
    await fs.rm(fs.join(folder, left), { force: true }).catch(() => {});
  }
}

/** The new name is in the folder, which is written on its own. Not every system can open one (Windows). */
async function syncFolder(fs: Fs, path: string): Promise<void> {
  const folder = await fs.open(path, 'r').catch(() => undefined);
  if (folder === undefined) return;
  await folder.sync().catch(() => {});
  await folder.close();
}

function failed(what: 'read' | 'written', path: string, cause: unknown): GearError {
  return new GearError(
    'IO_FAILED',
    `${path} could not be ${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
    { cause },
  );
}
