/// <reference lib="esnext.disposable" preserve="true" />
import { checkedSignal, untilAborted } from '../abort.js';
import { tokenIdsOf } from '../about.js';
import { checkedTokenIds, commonPrefix, type TokenIds } from '../adapters/token-ids.js';
import { collected, streamPieces } from '../byte-stream.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, checkedPositive, refuseUnknown } from '../options.js';
import { GearCache, seal, unseal } from '../public.js';
import { type CheckedKey, type KeyOptions, optionalKey } from '../seal-key.js';
import type { Store, StoreCallOptions } from '../store/store.js';
import type { FromBytesOptions } from '../tensor.js';
import { Addresses } from './addresses.js';

/** Options of {@link PromptCache}. */
export interface PromptCacheOptions extends KeyOptions, FromBytesOptions {
  /** Where prefixes are kept; several processes may share it. */
  store: Store;
  /** The model that they are of: whatever changes what it computes belongs in this name. A prefix of another one is never returned. */
  model: string;
  /** The most that all prefixes in the store may take together. */
  maxBytes: number;
}

/** What {@link PromptCache.get} found. */
export interface PromptHit {
  /** Keys and values of the tokens that the prompt begins with; the caller's to extend and to dispose of. */
  readonly cache: GearCache;
  /** How many tokens those are. */
  readonly tokens: number;
}

const CONTENT = '.gear';
const INDEX = '.ids';

/** Saved prefixes of prompts: the longest one that a prompt begins with is found, and the least recently used goes first. */
export class PromptCache {
  readonly #store: Store;
  readonly #model: string;
  readonly #maxBytes: number;
  readonly #sealing: { readonly key: CheckedKey } | undefined;
  readonly #backend: FromBytesOptions;
  readonly #addresses: Addresses;
  /** Token ids by address. What an address stands for never changes, so they are read once. */
  readonly #known = new Map<string, Uint32Array>();
  /** Loads that are on their way, and how many wait for each. */
  readonly #loads = new Map<string, { cache: Promise<GearCache | undefined>; users: number }>();
  readonly #puts = new Map<string, Promise<void>>();
  #disposed = false;

  /** @throws GearError `INVALID_OPTION`. */
  constructor(options: PromptCacheOptions) {
    const checked = checkedOptions<PromptCacheOptions>('the options of PromptCache', options);
    refuseUnknown('PromptCache', checked, ['store', 'model', 'maxBytes', 'key', 'backend']);
    const { store, model, maxBytes, key, backend } = checked;
    for (const method of ['get', 'put', 'delete', 'list', 'touch'] as const) {
      if (typeof store?.[method] === 'function') continue;
      throw new GearError('INVALID_OPTION', `store is ${describe(store)} without ${method}(); expected a Store`);
    }
    if (typeof model !== 'string' || model === '') {
      throw new GearError('INVALID_OPTION', `model is ${describe(model)}; expected its name`);
    }
    this.#store = store;
    this.#model = model;
    this.#maxBytes = checkedPositive('maxBytes', maxBytes);
    const checkedKey = optionalKey(key);
    this.#sealing = checkedKey === undefined ? undefined : { key: checkedKey };
    this.#backend = backend === undefined ? {} : { backend };
    this.#addresses = new Addresses(model, checkedKey);
  }

  /**
   * Looks up the longest run of tokens that the prompt and any saved prefix both begin with.
   *
   * @returns The cache, cut to those tokens; undefined where there is none. Leave a token to compute: `get(prompt.slice(0, -1))`.
   * @throws GearError `INVALID_OPTION`, `IO_FAILED`, `DISPOSED`; the signal's reason where that fired. What is damaged in the store is let go of,
   * not returned.
   */
  async get(tokens: TokenIds, options: StoreCallOptions = {}): Promise<PromptHit | undefined> {
    const wanted = checkedTokenIds('tokens', tokens);
    const signal = checkedSignal(options.signal);
    this.#live();
    const candidates = await this.#candidates(wanted, signal);
    for (const { address, shared } of candidates) {
      this.#live();
      const cache = await this.#fork(address, signal);
      if (cache === undefined) continue;
      if (cache.tokens > shared) cache.truncate(shared);
      await this.#store.touch(address + INDEX);
      await this.#store.touch(address + CONTENT);
      return { cache, tokens: shared };
    }
    return undefined;
  }

  /**
   * Saves the cache of a prompt's tokens, as it is now, and lets others go until all fit. A prefix that is there already is only noted as used.
   *
   * @param tokens - All tokens of the cache.
   * @param cache - Of one sequence; it stays the caller's.
   * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `OUT_OF_RANGE` for one that never fits, `STORAGE_FULL`, `IO_FAILED`, `DISPOSED`; the signal's reason.
   */
  async put(tokens: TokenIds, cache: GearCache, options: StoreCallOptions = {}): Promise<void> {
    const tokenIds = checkedTokenIds('tokens', tokens).slice();
    const signal = checkedSignal(options.signal);
    signal?.throwIfAborted();
    this.#live();
    if (cache.batch !== 1 || cache.tokens !== tokenIds.length || tokenIds.length === 0) {
      throw new GearError(
        'SHAPE_MISMATCH',
        `${tokenIds.length} tokens were given for a cache of ${cache.batch} sequence(s) of ${cache.tokens}; expected one sequence, and its tokens`,
      );
    }
    if (cache.byteLength > this.#maxBytes) {
      throw new GearError(
        'OUT_OF_RANGE',
        `the cache has ${cache.byteLength} bytes; all prefixes together may have ${this.#maxBytes}`,
      );
    }
    // What is saved is the cache at the time of the call.
    const snapshot = cache.fork();
    try {
      const address = await this.#addresses.of(tokenIds);
      const running = this.#puts.get(address);
      // Somebody else's put of the same may fail or be stopped; then it is ours to do.
      if (running !== undefined && (await settled(running, signal))) return;
      const work = this.#save(address, tokenIds, snapshot, signal);
      this.#puts.set(address, work);
      try {
        await work;
      } finally {
        if (this.#puts.get(address) === work) this.#puts.delete(address);
      }
    } finally {
      snapshot.dispose();
    }
  }

  /** Lets go of what is in memory; the store keeps what it has. Any later use throws `DISPOSED`. */
  dispose(): void {
    this.#disposed = true;
    this.#known.clear();
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  async #save(address: string, tokenIds: Uint32Array, cache: GearCache, signal: AbortSignal | undefined) {
    const entries = await this.#store.list();
    const there = new Set(entries.map(({ name }) => name));
    if (there.has(address + CONTENT) && there.has(address + INDEX)) {
      await this.#store.touch(address + CONTENT);
      await this.#store.touch(address + INDEX);
      return;
    }
    const stop = signal === undefined ? {} : { signal };
    const content = cache.toStream({ about: { model: this.#model, tokenIds }, ...this.#sealing, ...stop });
    await this.#store.put(address + CONTENT, streamPieces(content), stop);
    // The content first: an index is never there without it, unless that was evicted.
    const ids = new Uint8Array(tokenIds.buffer);
    const index = this.#sealing === undefined ? once(ids) : streamPieces(seal([ids], this.#sealing));
    await this.#store.put(address + INDEX, index, stop);
    await this.#evict(address);
  }

  /** Least recently used first, and what was just put last of all; index before content. */
  async #evict(newest: string): Promise<void> {
    const sizes = new Map<string, { bytes: number; usedAt: number }>();
    for (const { name, byteLength, usedAt } of await this.#store.list()) {
      const address = addressOf(name);
      if (address === undefined) continue;
      const size = sizes.get(address) ?? { bytes: 0, usedAt: 0 };
      const used = address === newest ? Number.POSITIVE_INFINITY : Math.max(size.usedAt, usedAt);
      sizes.set(address, { bytes: size.bytes + byteLength, usedAt: used });
    }
    let total = 0;
    for (const { bytes } of sizes.values()) total += bytes;
    const oldestFirst = [...sizes].sort(([, one], [, other]) => one.usedAt - other.usedAt);
    for (const [address, { bytes }] of oldestFirst) {
      if (total <= this.#maxBytes) return;
      await this.#forget(address);
      total -= bytes;
    }
  }

  async #forget(address: string): Promise<void> {
    this.#known.delete(address);
    await this.#store.delete(address + INDEX);
    await this.#store.delete(address + CONTENT);
  }

  /** Prefixes that share something with the prompt: the longest first, and of those the smallest. */
  async #candidates(wanted: Uint32Array, signal: AbortSignal | undefined) {
    const start = await this.#addresses.modelPrefix();
    const entries = await this.#store.list();
    signal?.throwIfAborted();
    const there = new Set<string>();
    for (const { name } of entries) {
      if (name.startsWith(start) && name.endsWith(INDEX)) there.add(name.slice(0, -INDEX.length));
    }
    for (const address of this.#known.keys()) if (!there.has(address)) this.#known.delete(address);
    for (const address of there) {
      if (this.#known.has(address)) continue;
      const ids = await this.#index(address, signal);
      if (ids !== undefined) this.#known.set(address, ids);
    }
    return Array.from(this.#known, ([address, ids]) => ({ address, ids, shared: commonPrefix(ids, wanted) }))
      .filter(({ shared }) => shared > 0)
      .sort((one, other) => other.shared - one.shared || one.ids.length - other.ids.length);
  }

  async #index(address: string, signal: AbortSignal | undefined): Promise<Uint32Array | undefined> {
    const bytes = await this.#readable(address + INDEX, async () => {
      const given = await this.#store.get(address + INDEX, signal === undefined ? {} : { signal });
      if (given === undefined) return undefined;
      return collected(this.#sealing === undefined ? given : streamPieces(unseal(given, this.#sealing)));
    });
    if (bytes === undefined) return undefined;
    // The address is a hash of the ids: an index that was damaged is not believed.
    if (bytes.length > 0 && bytes.length % 4 === 0) {
      const ids = tokenIdsOf(bytes, bytes.length / 4);
      if ((await this.#addresses.of(ids)) === address) return ids;
    }
    await this.#forget(address);
    return undefined;
  }

  /** A cache of one's own of what is kept; all who ask at the same time share one loading of it. */
  async #fork(address: string, signal: AbortSignal | undefined): Promise<GearCache | undefined> {
    let load = this.#loads.get(address);
    if (load === undefined) {
      load = { cache: this.#load(address), users: 0 };
      this.#loads.set(address, load);
    }
    load.users += 1;
    try {
      await settled(load.cache, signal);
      return (await load.cache)?.fork();
    } finally {
      load.users -= 1;
      if (load.users === 0) {
        this.#loads.delete(address);
        load.cache.then(
          (cache) => cache?.dispose(),
          () => {},
        );
      }
    }
  }

  async #load(address: string): Promise<GearCache | undefined> {
    const ids = this.#known.get(address);
    const cache = await this.#readable(address + CONTENT, async () => {
      const bytes = await this.#store.get(address + CONTENT);
      return bytes && GearCache.fromStream(bytes, { ...this.#backend, ...this.#sealing });
    });
    const { model, tokenIds } = cache?.about ?? {};
    const isRight = model === this.#model && ids !== undefined && tokenIds !== undefined && same(ids, tokenIds);
    if (isRight && cache?.batch === 1 && cache.tokens === ids.length) return cache;
    // Gone, expired, damaged or of something else: without its index it is not looked for again, and the next put renews it.
    cache?.dispose();
    await this.#forget(address);
    return undefined;
  }

  /** What reading gives; undefined where the value is damaged, or went away meanwhile. */
  async #readable<Result>(name: string, read: () => Promise<Result | undefined>): Promise<Result | undefined> {
    try {
      return await read();
    } catch (error) {
      const code = error instanceof GearError ? error.code : undefined;
      if (code === 'CORRUPT_DATA' || code === 'KEY_MISMATCH') {
        await this.#forget(name.replace(/\.\w+$/, ''));
        return undefined;
      }
      // Another process may have evicted or replaced it while it was read.
      if (code === 'IO_FAILED' && !(await this.#store.list()).some((entry) => entry.name === name)) return undefined;
      throw error;
    }
  }

  #live(): void {
    if (this.#disposed)
      throw new GearError('DISPOSED', 'this PromptCache was disposed of; make a new one on its store');
  }
}

function addressOf(name: string): string | undefined {
  const match = /^([0-9a-f]{16}-[0-9a-f]{48})\.(?:gear|ids)$/.exec(name);
  return match?.[1];
}

function same(one: Uint32Array, other: Uint32Array): boolean {
  return one.length === other.length && commonPrefix(one, other) === one.length;
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** Waits for work, or for the signal; true where the work succeeded. */
function settled(work: Promise<unknown>, signal: AbortSignal | undefined): Promise<boolean> {
  const ended = work.then(
    () => true,
    () => false,
  );
  return untilAborted(ended, signal);
}
