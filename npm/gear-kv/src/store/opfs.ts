import { checkedSignal } from '../abort.js';
import { streamPieces } from '../byte-stream.js';
import { GearError } from '../errors.js';
import {
  absent,
  checkedName,
  type Store,
  type StoreCallOptions,
  type StoreEntry,
  stoppable,
  storing,
} from './store.js';

/** Files of one byte, whose times say when values were used. */
const USES = '.uses';

/** A store in the origin's private file system: a file a value, which the browser puts in place when it is whole. */
export class OpfsStore implements Store {
  readonly #name: string;

  /** @param name - The folder's; it should hold nothing else. */
  constructor(name = 'gear-kv') {
    this.#name = checkedName(name);
  }

  /** {@link Store.get} */
  async get(name: string, options: StoreCallOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    return storing(`${name} could not be read`, signal, async () => {
      const handle = await absent((await this.#folder()).getFileHandle(name));
      const file = await handle?.getFile();
      return file === undefined || file.size === 0 ? undefined : stoppable(streamPieces(file.stream()), signal);
    });
  }

  /** {@link Store.put} */
  async put(name: string, bytes: AsyncIterable<Uint8Array>, options: StoreCallOptions = {}): Promise<void> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    await storing(`${name} could not be kept`, signal, async () => {
      // A new file is there at once, and empty until close(): `get` and `list` leave it out.
      const handle = await (await this.#folder()).getFileHandle(name, { create: true });
      const file = await handle.createWritable();
      try {
        for await (const piece of stoppable(bytes, signal)) await file.write(piece as Uint8Array<ArrayBuffer>);
        await file.close();
      } catch (error) {
        await file.abort().catch(() => {});
        throw error;
      }
    });
  }

  /** {@link Store.delete} */
  async delete(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be deleted`, undefined, async () => {
      await absent((await this.#folder()).removeEntry(name));
      await absent((await this.#uses()).removeEntry(name));
    });
  }

  /** {@link Store.list} */
  async list(): Promise<StoreEntry[]> {
    return storing('the private file system could not be listed', undefined, async () => {
      const folder = await this.#folder();
      const uses = await this.#uses();
      const entries: StoreEntry[] = [];
      for await (const name of folder.keys()) {
        if (name === USES) continue;
        const file = await absent(fileOf(folder, name));
        if (file === undefined || file.size === 0) continue;
        const use = await absent(fileOf(uses, name));
        const usedAt = Math.max(file.lastModified, use?.lastModified ?? 0);
        entries.push({ name, byteLength: file.size, usedAt });
      }
      return entries;
    });
  }

  /** {@link Store.touch} */
  async touch(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be touched`, undefined, async () => {
      if ((await absent((await this.#folder()).getFileHandle(name))) === undefined) return;
      const file = await (await (await this.#uses()).getFileHandle(name, { create: true })).createWritable();
      await file.write(Uint8Array.of(1));
      await file.close();
    });
  }

  async #folder(): Promise<FileSystemDirectoryHandle> {
    const storage = (globalThis as { navigator?: { storage?: Partial<StorageManager> } }).navigator?.storage;
    if (storage?.getDirectory === undefined) {
      throw new GearError('IO_FAILED', 'there is no private file system here; in Node, Deno and Bun take FileStore');
    }
    return (await storage.getDirectory()).getDirectoryHandle(this.#name, { create: true });
  }

  async #uses(): Promise<FileSystemDirectoryHandle> {
    return (await this.#folder()).getDirectoryHandle(USES, { create: true });
  }
}

async function fileOf(folder: FileSystemDirectoryHandle, name: string): Promise<File> {
  return (await folder.getFileHandle(name)).getFile();
}
