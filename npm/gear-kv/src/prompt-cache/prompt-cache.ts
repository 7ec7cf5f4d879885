/// <reference lib="esnext.disposable" preserve="true" />
import { checkedSignal, untilAborted } from '../abort.js';
import { tokenIdsOf } from '../about.js';
import { checkedTokenIds, commonPrefix, type TokenIds } from '../adapters/token-ids.js';
import { collected, streamPieces } from '../byte-stream.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, checkedPositive, refuseUnknown } from '../options.js';
import { FrozenCache, GearCache, seal, unseal } from '../public.js';
import { type CheckedKey, type KeyOptions, optionalKey } from '../seal-key.js';
import type { Store, StoreCallOptions } from '../store/store.js';
import type { FromBytesOptions } from '../tensor.js';
import { Addresses } from './addresses.js';
import {
  type Compute,
  checkedTokens,
  computedBy,
  entryOf,
  type PromptEntry,
  type PromptGetOptions,
  type PromptHit,
  type PromptResult,
} from './entry.js';
import { PrefixIndex } from './prefix-index.js';
import { Sharing } from './sharing.js';

/** Options of {@link PromptCache}. */
export interface PromptCacheOptions extends KeyOptions, FromBytesOptions {
  /** Where prefixes are kept; several processes may share it. */
  store: Store;
  /** The model that they are of: whatever changes what it computes belongs in this name. A prefix of another one is never returned. */
  model: string;
  /** The most that all prefixes in the store may take together. */
  maxBytes: number;
  /**
   * How old the list may be of what other processes have put, in milliseconds. Default: 1,000. With 0 the store is listed for every
   * {@link PromptCache.get}. What this object put itself is found at once.
   */
  refreshMs?: number;
}

/** What a store had. */
type Loaded = Required<PromptEntry<GearCache>>;

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
  readonly #index: PrefixIndex;
  readonly #loads = new Sharing<Loaded | undefined>((loaded) => loaded?.cache.dispose());
  readonly #computations = new Sharing<PromptResult>(({ cache }) => cache.dispose());
  readonly #puts = new Map<string, Promise<void>>();
  #disposed = false;

  /** @throws GearError `INVALID_OPTION`. */
  constructor(options: PromptCacheOptions) {
    const checked = checkedOptions<PromptCacheOptions>('the options of PromptCache', options);
    refuseUnknown('PromptCache', checked, ['store', 'model', 'maxBytes', 'refreshMs', 'key', 'backend']);
    const { store, model, maxBytes, refreshMs = 1000, key, backend } = checked;
    for (const method of ['get', 'put', 'delete', 'list', 'touch'] as const) {
      if (typeof store?.[method] === 'function') continue;
      throw new GearError('INVALID_OPTION', `store is ${describe(store)} without ${method}(); expected a Store`);
    }
    if (typeof model !== 'string' || model === '') {
      throw new GearError('INVALID_OPTION', `model is ${describe(model)}; expected its name`);
    }
    if (typeof refreshMs !== 'number' || !(refreshMs >= 0)) {
      throw new GearError('INVALID_OPTION', `refreshMs is ${describe(refreshMs)}; expected milliseconds, 0 or more`);
    }
    this.#store = store;
    this.#model = model;
    this.#maxBytes = checkedPositive('maxBytes', maxBytes);
    const checkedKey = optionalKey(key);
    this.#sealing = checkedKey === undefined ? undefined : { key: checkedKey };
    this.#backend = backend === undefined ? {} : { backend };
    this.#addresses = new Addresses(model, checkedKey);
    this.#index = new PrefixIndex({
      store,
      refreshMs,
      addressOf: (name) => this.#indexed(name),
      read: (address) => this.#tokenIds(address),
    });
  }

  /**
   * Looks up the longest run of tokens that the prompt and any saved prefix both begin with.
   *
   * @returns The cache, cut to those tokens; undefined where there is none. Leave a token to compute: `get(prompt.slice(0, -1))`.
   * @throws GearError `INVALID_OPTION`, `IO_FAILED`, `DISPOSED`; the signal's reason where that fired. What is damaged in the store is let go of,
   * not returned.
   */
  async get(tokens: TokenIds, options: PromptGetOptions = {}): Promise<PromptHit | undefined> {
    const wanted = checkedTokenIds('tokens', tokens);
    const signal = checkedSignal(options.signal);
    this.#live();
    for (const { address, shared } of await this.#index.candidates(wanted, signal)) {
      this.#live();
      const hit = await this.#loads.take(
        address,
        () => this.#load(address),
        (loaded) => loaded && { ...loaded, cache: loaded.cache.fork() },
        signal,
      );
      if (hit === undefined) continue;
      const { cache, about } = hit;
      if (options.whole !== true && cache.tokens > shared) cache.truncate(shared);
      await this.#store.touch(address + INDEX);
      await this.#store.touch(address + CONTENT);
      return { cache, about, tokens: shared };
    }
    return undefined;
  }

  /**
   * The cache of all of these tokens: what is kept, or else what `compute` makes, which is then kept. All who ask for the same tokens at the same
   * time wait for one computation, within one `PromptCache`, and each gets a cache of their own.
   *
   * @param compute - Gets the longest prefix that is kept, if any, and returns the cache of all tokens: that one, extended, or another. What it
   * returns is no longer its own. It goes on where a signal fires: others may wait for it, and it is kept.
   * @throws GearError as {@link get}; `SHAPE_MISMATCH` for a cache of other tokens; whatever `compute` throws; the signal's reason.
   */
  async through(tokens: TokenIds, compute: Compute, options: StoreCallOptions = {}): Promise<PromptResult> {
    const tokenIds = checkedTokenIds('tokens', tokens);
    const signal = checkedSignal(options.signal);
    if (typeof compute !== 'function') {
      throw new GearError('INVALID_OPTION', `compute is ${describe(compute)}; expected a function`);
    }
    signal?.throwIfAborted();
    this.#live();
    // By the tokens themselves: their address takes a while, in which others who ask would overtake.
    return this.#computations.take(
      tokenIds.join(),
      async () => {
        const prefix = await this.get(tokenIds);
        if (prefix?.tokens === tokenIds.length) return { ...prefix, computed: false };
        const { cache, about = {} } = await computedBy(compute, prefix, tokenIds);
        const computed = { cache, about, tokens: tokenIds.length, computed: true };
        return this.put(tokenIds, { cache, about }).then(
          () => computed,
          (notKept: unknown) => ({ ...computed, notKept }),
        );
      },
      (result) => ({ ...result, cache: result.cache.fork() }),
      signal,
    );
  }

  /**
   * Saves the cache of a prompt's tokens, as it is now, and lets others go until all fit. A prefix that is there already is only noted as used.
   *
   * @param tokens - All tokens of the cache.
   * @param kept - A cache of one sequence, or one with what is to be saved beside it; it stays the caller's.
   * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `OUT_OF_RANGE` for one that never fits, `STORAGE_FULL`, `IO_FAILED`, `DISPOSED`; the signal's reason.
   */
  async put(
    tokens: TokenIds,
    kept: GearCache | FrozenCache | PromptEntry,
    options: StoreCallOptions = {},
  ): Promise<void> {
    const tokenIds = checkedTokenIds('tokens', tokens).slice();
    const signal = checkedSignal(options.signal);
    signal?.throwIfAborted();
    this.#live();
    const { cache, about } = entryOf(kept);
    checkedTokens(cache, tokenIds);
    if (cache.byteLength > this.#maxBytes) {
      throw new GearError(
        'OUT_OF_RANGE',
        `the cache has ${cache.byteLength} bytes; all prefixes together may have ${this.#maxBytes}`,
      );
    }
    const stop = signal === undefined ? {} : { signal };
    // A stream is of the cache at the time of the call.
    const content = cache.toStream({ about: { ...about, model: this.#model, tokenIds }, ...this.#sealing, ...stop });
    try {
      const address = await this.#addresses.of(tokenIds);
      const running = this.#puts.get(address);
      // Somebody else's put of the same may fail or be stopped; then it is ours to do.
      if (running !== undefined && (await settled(running, signal))) return;
      const work = this.#save(address, tokenIds, content, signal);
      this.#puts.set(address, work);
      try {
        await work;
      } finally {
        if (this.#puts.get(address) === work) this.#puts.delete(address);
      }
    } finally {
      if (!content.locked) await content.cancel().catch(() => {});
    }
  }

  /** Lets go of what is in memory; the store keeps what it has. Any later use throws `DISPOSED`. */
  dispose(): void {
    this.#disposed = true;
    this.#index.clear();
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  async #save(
    address: string,
    tokenIds: Uint32Array,
    content: ReadableStream<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const entries = await this.#store.list();
    const there = new Set(entries.map(({ name }) => name));
    if (there.has(address + CONTENT) && there.has(address + INDEX)) {
      await this.#store.touch(address + CONTENT);
      await this.#store.touch(address + INDEX);
      this.#index.add(address, tokenIds);
      return;
    }
    const stop = signal === undefined ? {} : { signal };
    await this.#store.put(address + CONTENT, streamPieces(content), stop);
    // The content first: an index is never there without it, unless that was evicted.
    const ids = new Uint8Array(tokenIds.buffer);
    const index = this.#sealing === undefined ? once(ids) : streamPieces(seal([ids], this.#sealing));
    await this.#store.put(address + INDEX, index, stop);
    this.#index.add(address, tokenIds);
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
    this.#index.delete(address);
    await this.#store.delete(address + INDEX);
    await this.#store.delete(address + CONTENT);
  }

  /** The address that a value's name stands for, if that is a list of token ids of this model. */
  async #indexed(name: string): Promise<string | undefined> {
    const address = name.endsWith(INDEX) ? addressOf(name) : undefined;
    return address?.startsWith(await this.#addresses.modelPrefix()) === true ? address : undefined;
  }

  async #tokenIds(address: string): Promise<Uint32Array | undefined> {
    const bytes = await this.#readable(address + INDEX, async () => {
      const given = await this.#store.get(address + INDEX);
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

  async #load(address: string): Promise<Loaded | undefined> {
    const ids = this.#index.get(address);
    const loaded = await this.#readable(address + CONTENT, () => this.#content(address + CONTENT));
    const { model, tokenIds } = loaded?.about ?? {};
    const isRight = model === this.#model && ids !== undefined && tokenIds !== undefined && same(ids, tokenIds);
    if (isRight && loaded?.cache.batch === 1 && loaded.cache.tokens === ids.length) return loaded;
    // Gone, expired, damaged or of something else: without its index it is not looked for again, and the next put renews it.
    loaded?.cache.dispose();
    await this.#forget(address);
    return undefined;
  }

  async #content(name: string): Promise<Loaded | undefined> {
    const options = { ...this.#backend, ...this.#sealing };
    try {
      const bytes = await this.#store.get(name);
      const cache = bytes && (await GearCache.fromStream(bytes, options));
      return cache && { cache, about: cache.about ?? {} };
    } catch (error) {
      // It refuses a cache at rest as soon as it has read that it is one.
      if (!(error instanceof GearError) || error.code !== 'INVALID_OPTION') throw error;
    }
    const bytes = await this.#store.get(name);
    if (bytes === undefined) return undefined;
    const frozen = await FrozenCache.fromStream(bytes, options);
    try {
      return { cache: await frozen.thaw(), about: frozen.about ?? {} };
    } finally {
      frozen.dispose();
    }
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
