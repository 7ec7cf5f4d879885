// gear-kv/transformers: caches of transformers.js, compressed between calls. Its classes are the caller's; nothing of it is imported.
import { checkedSignal } from './abort.js';
import { type FreezeCacheOptions, freezeEntries } from './adapters/freeze.js';
import { GearDynamicCache } from './adapters/gear-dynamic-cache.js';
import { cacheEntries } from './adapters/layout.js';
import type { FrozenPrefix } from './adapters/prefix.js';
import type { TensorClass } from './adapters/tensor.js';
import { checkedClass, type ThawCacheOptions, thawEntries } from './adapters/thaw.js';

export type { About, Json } from './about.js';
export type { Belonging, Compression, FreezeCacheOptions } from './adapters/freeze.js';
export { GearDynamicCache, type GearDynamicCacheOptions } from './adapters/gear-dynamic-cache.js';
export { type LoadFrozenOptions, loadFrozen } from './adapters/load.js';
export { FrozenPrefix, type MatchOptions } from './adapters/prefix.js';
export type { TensorClass, TensorLike } from './adapters/tensor.js';
export type { ThawCacheOptions } from './adapters/thaw.js';
export type { TokenIds } from './adapters/token-ids.js';
export { GearError, type GearErrorCode } from './errors.js';
export { init } from './public.js';

/** What {@link thawCache} makes entries of, from `@huggingface/transformers`. */
export interface ThawInto<Cache, Tensor> extends ThawCacheOptions {
  /** Its class `DynamicCache`. */
  DynamicCache: new (
    entries: Record<string, Tensor>,
  ) => Cache;
  /** Its class `Tensor`. */
  Tensor: TensorClass<Tensor>;
}

/**
 * Compresses a cache of transformers.js, which stays as it is; tensors on the GPU are fetched, and are in memory afterwards. Keys and values are
 * compressed, whatever else the model keeps travels along untouched.
 *
 * @param cache - A `DynamicCache`, as `generate` returns it with `return_dict_in_generate`, or a {@link GearDynamicCache}.
 * @param options - How to compress, the token ids that the model has seen, the model's name.
 * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `MODEL_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`; the signal's reason where that fired.
 */
export async function freezeCache(cache: object, options: FreezeCacheOptions = {}): Promise<FrozenPrefix> {
  if (cache instanceof GearDynamicCache) {
    const { signal, ...belonging } = options;
    checkedSignal(signal)?.throwIfAborted();
    return cache.freeze(belonging);
  }
  return freezeEntries(cacheEntries(cache), options);
}

/**
 * A `DynamicCache` with what was frozen, to be handed to `generate` as `past_key_values`. With `inputIds`, of as many tokens as the prompt begins
 * with; `generate` computes the rest of the prompt.
 *
 * @throws GearError `MODEL_MISMATCH` if no token serves the prompt, or for another model; `CORRUPT_DATA`; `DISPOSED`; the signal's reason.
 */
export async function thawCache<Cache, Tensor>(frozen: FrozenPrefix, into: ThawInto<Cache, Tensor>): Promise<Cache> {
  const DynamicCache = checkedClass('DynamicCache', into?.DynamicCache);
  return new DynamicCache(await thawEntries(frozen, checkedClass('Tensor', into.Tensor), into));
}
