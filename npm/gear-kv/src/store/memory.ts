import { checkedSignal } from '../abort.js';
import { joined } from '../byte-stream.js';
import { checkedName, type Store, type StoreCallOptions, type StoreEntry, stoppable, storing } from './store.js';

/** A store in this process's memory. */
export class MemoryStore implements Store {
  readonly #values = new Map<string, { bytes: Uint8Array; usedAt: number }>();

  /** {@link Store.get} */
  async get(name: string): Promise<AsyncIterable<Uint8Array> | undefined> {
    const value = this.#values.get(checkedName(name));
    if (value === undefined) return undefined;
    return (async function* () {
      yield value.bytes.slice();
    })();
  }

  /** {@link Store.put} */
  async put(name: string, bytes: AsyncIterable<Uint8Array>, options: StoreCallOptions = {}): Promise<void> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    await storing(`${name} could not be kept`, signal, async () => {
      const pieces: Uint8Array[] = [];
      for await (const piece of stoppable(bytes, signal)) pieces.push(piece.slice());
      this.#values.set(name, { bytes: joined(pieces), usedAt: Date.now() });
    });
  }

  /** {@link Store.delete} */
  async delete(name: string): Promise<void> {
    this.#values.delete(checkedName(name));
  }

  /** {@link Store.list} */
  async list(): Promise<StoreEntry[]> {
    return Array.from(this.#values, ([name, { bytes, usedAt }]) => ({ name, byteLength: bytes.length, usedAt }));
  }

  /** {@link Store.touch} */
  async touch(name: string): Promise<void> {
    const value = this.#values.get(checkedName(name));
    if (value !== undefined) value.usedAt = Date.now();
  }
}
