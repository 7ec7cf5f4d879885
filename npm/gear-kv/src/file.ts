import { builtin } from './backend/runtime.js';
import { describe, GearError } from './errors.js';

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

/** True where something is there. */
export async function fileExists(location: string): Promise<boolean> {
  const fs = required();
  return fs.lstat(location).then(
    () => true,
    () => false,
  );
}

/** Writes beside the file, waits until that is on the disk, then moves it into place. */
export async function writeFileAtomically(location: string | URL, bytes: Uint8Array): Promise<void> {
  const fs = required();
  const path = pathOf(fs, location);
  const beside = fs.join(fs.dirname(path), `.${fs.basename(path)}.${randomSuffix()}.tmp`);
  try {
    const file = await fs.open(beside, 'wx');
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await fs.rename(beside, path);
    await syncFolder(fs, fs.dirname(path));
  } catch (cause) {
    await fs.rm(beside, { force: true }).catch(() => {});
    throw failed('written', path, cause);
  }
}

/** The new name is in the folder, which is written on its own. Not every system can open one (Windows). */
async function syncFolder(fs: Fs, path: string): Promise<void> {
  const folder = await fs.open(path, 'r').catch(() => undefined);
  if (folder === undefined) return;
  await folder.sync().catch(() => {});
  await folder.close();
}

function randomSuffix(): string {
  return crypto.getRandomValues(new Uint32Array(2)).join('-');
}

function failed(what: 'read' | 'written', path: string, cause: unknown): GearError {
  return new GearError(
    'IO_FAILED',
    `${path} could not be ${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
    { cause },
  );
}
