/// <reference lib="esnext.disposable" preserve="true" />
import type { About } from '../about.js';
import { describe, GearError } from '../errors.js';
import type { FreezeOptions, ThawOptions } from '../frozen-options.js';
import type { FrozenCache, GearCache } from '../public.js';
import { bearing, type Layout } from './layout.js';
import { checkedTokenIds, commonPrefix, type TokenIds } from './token-ids.js';
import { readTravelNote } from './travel-note.js';

/** What a prompt is checked against before a cache is used for it. */
export interface MatchOptions {
  /** The whole prompt. Of the cache, the tokens are used that both begin with; at least the prompt's last one is left to compute. */
  inputIds?: TokenIds;
  /** The model that is to go on, as it was named when the cache was frozen. */
  model?: string;
}

/**
 * The cache of tokens that a model has seen, compressed, with what belongs to it: {@link GearCache} or {@link FrozenCache}, the token ids, the
 * name of the model, and entries that are no keys and values. Made by `freezeCache` and `loadFrozen`.
 */
export class FrozenPrefix {
  /** Keys and values. */
  readonly cache: GearCache | FrozenCache;
  /** What is saved beside them. */
  readonly about: About;
  /** @internal */
  readonly layout: Layout;

  /**
   * @param cache - Keys and values, which this object owns from now on.
   * @param about - What was saved beside them.
   * @throws GearError `CORRUPT_DATA` if that was not saved by `freezeCache` and its kin.
   */
  constructor(cache: GearCache | FrozenCache, about: About) {
    this.cache = cache;
    this.about = about;
    this.layout = readTravelNote(cache, about);
  }

  /** Tokens that the model has seen. */
  get tokens(): number {
    return this.cache.tokens;
  }

  /** Bytes of everything that is kept: the compressed cache, the entries beside it and the token ids. */
  get byteLength(): number {
    const arrays = Object.values(this.about.arrays ?? {}).reduce((sum, { data }) => sum + data.byteLength, 0);
    return this.cache.byteLength + arrays + (this.about.tokenIds?.byteLength ?? 0);
  }

  /** The token ids, where they are known. */
  get tokenIds(): Uint32Array | undefined {
    return this.about.tokenIds;
  }

  /** The model's name, as it was given. */
  get model(): string | undefined {
    return this.about.model;
  }

  /**
   * How many tokens of this cache serve a prompt: those that both begin with, and never all of the prompt, whose last token is to be computed.
   * Without `inputIds` all tokens do.
   *
   * @throws GearError `MODEL_MISMATCH` for another model, and where the prompt begins otherwise.
   */
  usable(options: MatchOptions = {}): number {
    const { inputIds, model } = options;
    if (model !== undefined && model !== this.model) {
      const made = this.model === undefined ? 'has no name of a model' : `was made by '${this.model}'`;
      throw new GearError('MODEL_MISMATCH', `this cache ${made}; it cannot go on with '${model}'`);
    }
    if (inputIds === undefined) return this.tokens;
    const ids = checkedTokenIds('inputIds', inputIds);
    const known = this.tokenIds;
    if (known === undefined) {
      throw new GearError('MODEL_MISMATCH', 'this cache has no token ids to compare with; freeze it with tokenIds');
    }
    const shared = Math.min(commonPrefix(known, ids), ids.length - 1);
    if (shared > 0 && (shared === this.tokens || !this.#isBound())) return shared;
    throw new GearError('MODEL_MISMATCH', this.#mismatch(shared, ids));
  }

  /**
   * The same at rest: entropy-coded, smaller again, and slower to thaw. This one stays as it is.
   *
   * @throws GearError as `GearCache.freeze`; `INVALID_OPTION` if this is at rest already.
   */
  async freeze(options: FreezeOptions = {}): Promise<FrozenPrefix> {
    return new FrozenPrefix(await this.live('freeze').freeze(options), this.about);
  }

  /**
   * Out of rest again: a compressed cache that can be extended, or that a `GearDynamicCache` goes on from. Compressed as it was before it was
   * frozen, or by other options. This one stays as it is.
   *
   * @throws GearError as `FrozenCache.thaw`; `INVALID_OPTION` if this is not at rest.
   */
  async thaw(options: ThawOptions = {}): Promise<FrozenPrefix> {
    if ('append' in this.cache) {
      throw new GearError('INVALID_OPTION', 'this prefix is not at rest; use it as it is');
    }
    return new FrozenPrefix(await this.cache.thaw(options), this.about);
  }

  /** The compressed cache, if it is not at rest. @internal */
  live(what: string): GearCache {
    if (!('append' in this.cache)) {
      throw new GearError(
        'INVALID_OPTION',
        `${what}: this prefix is at rest; take the one that it was made from, or thaw() it`,
      );
    }
    return this.cache;
  }

  /** All of it as a `.gear` container. */
  toBytes(): Uint8Array {
    return this.cache.toBytes(this.about);
  }

  /** The bytes of {@link toBytes} as a stream. */
  toStream(options: Omit<NonNullable<Parameters<GearCache['toStream']>[0]>, 'about'> = {}): ReadableStream<Uint8Array> {
    return this.cache.toStream({ ...options, about: this.about });
  }

  /** Writes all of it to a file, as `GearCache.save` does. Node, Deno and Bun. */
  save(path: string | URL, options: Omit<NonNullable<Parameters<GearCache['save']>[1]>, 'about'> = {}): Promise<void> {
    return this.cache.save(path, { ...options, about: this.about });
  }

  /** Gives the memory back at once. Any later use throws `DISPOSED`. */
  dispose(): void {
    this.cache.dispose();
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** True where what travels along is of use with all tokens only. */
  #isBound(): boolean {
    const arrays = Object.entries(this.about.arrays ?? {});
    return arrays.some(([name, { shape }]) => bearing(name, shape, this.tokens) === 'state');
  }

  #mismatch(shared: number, ids: Uint32Array): string {
    if (shared > 0) {
      return `the prompt shares ${shared} of this cache's ${this.tokens} tokens; the model has states that only go with all of them`;
    }
    if (ids.length < 2)
      return `the prompt has ${describe(ids.length)} tokens; at least one is to be computed, and one to be shared`;
    return `the prompt begins with token ${ids[0]}, and this cache with ${this.tokenIds?.[0]}: they share nothing`;
  }
}
