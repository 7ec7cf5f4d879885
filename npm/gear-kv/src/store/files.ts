import type * as NodeFs from 'node:fs';
import { checkedSignal } from '../abort.js';
import { builtin } from '../backend/runtime.js';
import { describe, GearError } from '../errors.js';
import { fileChunks, writeFileAtomically } from '../file.js';
import { makeFolder } from '../folder.js';
import { isLeftBehind } from '../left-behind.js';
import {
  absent,
  checkedName,
  type Store,
  type StoreCallOptions,
  type StoreEntry,
  stoppable,
  storing,
} from './store.js';

const CHUNK_BYTES = 1 << 20;
/** What a process that was killed left behind is cleared away after this long, where nobody can tell that it is gone: it was on another machine. */
const LEFT_BEHIND_MS = 24 * 3600 * 1000;

/**
 * A store in a folder, a file a value: written beside its name, on the disk before it is renamed. Several processes may share it. Node, Deno and Bun.
 */
export class FileStore implements Store {
  readonly #folder: string;

  /**
   * @param folder - Made where it is not there. It should hold nothing else.
   * @throws GearError `INVALID_OPTION`.
   */
  constructor(folder: string) {
    if (typeof folder !== 'string' || folder === '') {
      throw new GearError('INVALID_OPTION', `folder is ${describe(folder)}; expected a path`);
    }
    this.#folder = folder;
  }

  /** {@link Store.get} */
  async get(name: string, options: StoreCallOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    const path = this.#path(name);
    const signal = checkedSignal(options.signal);
    return storing(`${name} could not be read`, signal, async () => {
      if ((await absent(files().stat(path))) === undefined) return undefined;
      return stoppable(fileChunks(path, CHUNK_BYTES), signal);
    });
  }

  /** {@link Store.put} */
  async put(name: string, bytes: AsyncIterable<Uint8Array>, options: StoreCallOptions = {}): Promise<void> {
    const path = this.#path(name);
    const signal = checkedSignal(options.signal);
    await storing(`${name} could not be kept`, signal, async () => {
      await makeFolder(this.#folder);
      await writeFileAtomically(path, stoppable(bytes, signal));
    });
  }

  /** {@link Store.delete} */
  async delete(name: string): Promise<void> {
    const path = this.#path(name);
    await storing(`${name} could not be deleted`, undefined, () => files().rm(path, { force: true }));
  }

  /** {@link Store.list} */
  async list(): Promise<StoreEntry[]> {
    return storing(`${this.#folder} could not be listed`, undefined, async () => {
      const names = (await absent(files().readdir(this.#folder))) ?? [];
      const entries: StoreEntry[] = [];
      for (const name of names) {
        const path = `${this.#folder}/${name}`;
        // Another process may have deleted it since.
        const found = await absent(files().stat(path));
        if (found === undefined || !found.isFile()) continue;
        if (!name.startsWith('.')) entries.push({ name, byteLength: found.size, usedAt: found.mtimeMs });
        else if (isLeftBehind(name) || (name.endsWith('.tmp') && Date.now() - found.mtimeMs > LEFT_BEHIND_MS)) {
          await files().rm(path, { force: true });
        }
      }
      return entries;
    });
  }

  /** {@link Store.touch} */
  async touch(name: string): Promise<void> {
    const path = this.#path(name);
    const now = new Date();
    await storing(`${name} could not be touched`, undefined, () => absent(files().utimes(path, now, now)));
  }

  #path(name: string): string {
    return `${this.#folder}/${checkedName(name)}`;
  }
}

function files(): typeof NodeFs.promises {
  const fs = builtin('node:fs');
  if (fs !== undefined) return fs.promises;
  throw new GearError('IO_FAILED', 'files need Node, Deno or Bun; in a browser take OpfsStore or IndexedDbStore');
}
