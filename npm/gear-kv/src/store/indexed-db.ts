import { checkedSignal } from '../abort.js';
import { streamPieces } from '../byte-stream.js';
import { GearError } from '../errors.js';
import { checkedName, type Store, type StoreCallOptions, type StoreEntry, stoppable, storing } from './store.js';

const BYTES = 'bytes';
const ENTRIES = 'entries';

/** A store in IndexedDB: values are blobs, which browsers keep on the disk. Several tabs and workers may share it. */
export class IndexedDbStore implements Store {
  readonly #name: string;
  #database: Promise<IDBDatabase> | undefined;

  /** @param name - The database's; it should hold nothing else. */
  constructor(name = 'gear-kv') {
    this.#name = name;
  }

  /** {@link Store.get} */
  async get(name: string, options: StoreCallOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    return storing(`${name} could not be read`, signal, async () => {
      const transaction = (await this.#open()).transaction(BYTES);
      const blob = (await requested(transaction.objectStore(BYTES).get(name))) as Blob | undefined;
      return blob && stoppable(streamPieces(blob.stream()), signal);
    });
  }

  /** {@link Store.put} */
  async put(name: string, bytes: AsyncIterable<Uint8Array>, options: StoreCallOptions = {}): Promise<void> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    await storing(`${name} could not be kept`, signal, async () => {
      const pieces: Blob[] = [];
      for await (const piece of stoppable(bytes, signal)) pieces.push(new Blob([piece as Uint8Array<ArrayBuffer>]));
      const blob = new Blob(pieces);
      const transaction = (await this.#open()).transaction([BYTES, ENTRIES], 'readwrite');
      const committed = completed(transaction);
      transaction.objectStore(BYTES).put(blob, name);
      transaction.objectStore(ENTRIES).put({ name, byteLength: blob.size, usedAt: Date.now() }, name);
      await committed;
    });
  }

  /** {@link Store.delete} */
  async delete(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be deleted`, undefined, async () => {
      const transaction = (await this.#open()).transaction([BYTES, ENTRIES], 'readwrite');
      const committed = completed(transaction);
      for (const store of [BYTES, ENTRIES]) transaction.objectStore(store).delete(name);
      await committed;
    });
  }

  /** {@link Store.list} */
  async list(): Promise<StoreEntry[]> {
    return storing('IndexedDB could not be listed', undefined, async () => {
      const transaction = (await this.#open()).transaction(ENTRIES);
      return (await requested(transaction.objectStore(ENTRIES).getAll())) as StoreEntry[];
    });
  }

  /** {@link Store.touch} */
  async touch(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be touched`, undefined, async () => {
      const transaction = (await this.#open()).transaction(ENTRIES, 'readwrite');
      const committed = completed(transaction);
      const entries = transaction.objectStore(ENTRIES);
      const entry = (await requested(entries.get(name))) as StoreEntry | undefined;
      if (entry !== undefined) entries.put({ ...entry, usedAt: Date.now() }, name);
      await committed;
    });
  }

  #open(): Promise<IDBDatabase> {
    if (typeof indexedDB === 'undefined') {
      throw new GearError('IO_FAILED', 'there is no IndexedDB here; in Node, Deno and Bun take FileStore');
    }
    this.#database ??= opened(this.#name, () => {
      this.#database = undefined;
    });
    return this.#database;
  }
}

async function opened(name: string, closed: () => void): Promise<IDBDatabase> {
  try {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      for (const store of [BYTES, ENTRIES]) request.result.createObjectStore(store);
    };
    const database = await requested(request);
    database.onclose = closed;
    // Somebody deletes the database: holding it open would make them wait.
    database.onversionchange = () => {
      database.close();
      closed();
    };
    return database;
  } catch (error) {
    closed();
    throw error;
  }
}

function requested<Result>(request: IDBRequest<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function completed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error ?? new Error('the transaction was aborted'));
  });
}
