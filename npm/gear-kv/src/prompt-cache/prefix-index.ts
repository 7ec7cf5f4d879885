import { untilAborted } from '../abort.js';
import { commonPrefix } from '../adapters/token-ids.js';
import type { Store } from '../store/store.js';

/** A kept prefix that shares tokens with a prompt. */
export interface Candidate {
  readonly address: string;
  /** How many tokens both begin with. */
  readonly shared: number;
}

/** What the index asks of its owner. */
export interface PrefixIndexOptions {
  store: Store;
  /** The address of the prefix whose token ids a value holds, if it is one of this model's. */
  addressOf(name: string): Promise<string | undefined>;
  /** Its token ids, checked; undefined where they went away. */
  read(address: string): Promise<Uint32Array | undefined>;
  /** How old what the store listed may be. */
  refreshMs: number;
}

/**
 * Token ids of the prefixes that a store keeps of one model. What an address stands for never changes, so ids are read once; which of them there
 * are is what the store listed at most `refreshMs` ago, and what this process put and let go of since.
 */
export class PrefixIndex {
  readonly #options: PrefixIndexOptions;
  readonly #known = new Map<string, Uint32Array>();
  /** Put while the store was being listed: the list may not have them. */
  readonly #added = new Set<string>();
  #refreshing: Promise<void> | undefined;
  #refreshedAt = Number.NEGATIVE_INFINITY;

  constructor(options: PrefixIndexOptions) {
    this.#options = options;
  }

  /** The ids of one prefix, where they are known. */
  get(address: string): Uint32Array | undefined {
    return this.#known.get(address);
  }

  /** Notes what was put. */
  add(address: string, tokenIds: Uint32Array): void {
    this.#known.set(address, tokenIds);
    if (this.#refreshing !== undefined) this.#added.add(address);
  }

  /** Notes what was let go of. */
  delete(address: string): void {
    this.#known.delete(address);
    this.#added.delete(address);
  }

  /** Lets go of everything. */
  clear(): void {
    this.#known.clear();
    this.#refreshedAt = Number.NEGATIVE_INFINITY;
  }

  /** Prefixes that share something with the prompt: the longest first, and of those the smallest. */
  async candidates(wanted: Uint32Array, signal: AbortSignal | undefined): Promise<Candidate[]> {
    signal?.throwIfAborted();
    if (performance.now() - this.#refreshedAt >= this.#options.refreshMs) await untilAborted(this.#refresh(), signal);
    return Array.from(this.#known, ([address, ids]) => ({ address, ids, shared: commonPrefix(ids, wanted) }))
      .filter(({ shared }) => shared > 0)
      .sort((one, other) => other.shared - one.shared || one.ids.length - other.ids.length);
  }

  /** Lists the store; all who ask meanwhile wait for the same list. */
  #refresh(): Promise<void> {
    this.#refreshing ??= this.#list().finally(() => {
      this.#refreshing = undefined;
      this.#added.clear();
    });
    return this.#refreshing;
  }

  async #list(): Promise<void> {
    const { store, addressOf, read } = this.#options;
    const started = performance.now();
    const there = new Set<string>();
    for (const { name } of await store.list()) {
      const address = await addressOf(name);
      if (address !== undefined) there.add(address);
    }
    for (const address of this.#known.keys()) {
      if (!there.has(address) && !this.#added.has(address)) this.#known.delete(address);
    }
    for (const address of there) {
      if (this.#known.has(address)) continue;
      const ids = await read(address);
      if (ids !== undefined) this.#known.set(address, ids);
    }
    this.#refreshedAt = started;
  }
}
