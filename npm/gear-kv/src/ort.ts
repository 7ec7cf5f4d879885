// gear-kv/ort: tensors of onnxruntime (node, web, react-native), compressed between runs. Its classes are the caller's; nothing of it is imported.
import { type FreezeCacheOptions, freezeEntries } from './adapters/freeze.js';
import { cacheEntries } from './adapters/layout.js';
import type { FrozenPrefix } from './adapters/prefix.js';
import type { TensorClass } from './adapters/tensor.js';
import { checkedClass, type ThawCacheOptions, thawEntries } from './adapters/thaw.js';

export type { About, Json } from './about.js';
export type { Belonging, Compression, FreezeCacheOptions } from './adapters/freeze.js';
export { type LoadFrozenOptions, loadFrozen } from './adapters/load.js';
export { FrozenPrefix, type MatchOptions } from './adapters/prefix.js';
export type { TensorClass, TensorLike } from './adapters/tensor.js';
export type { ThawCacheOptions } from './adapters/thaw.js';
export type { TokenIds } from './adapters/token-ids.js';
export { GearError, type GearErrorCode } from './errors.js';
export { init } from './public.js';

/** What {@link thawTensors} makes tensors of, from `onnxruntime-node` or `onnxruntime-web`. */
export interface ThawTensorsOptions<Tensor> extends ThawCacheOptions {
  /** Its class `Tensor`. */
  Tensor: TensorClass<Tensor>;
}

/**
 * Compresses what a session's run gave for keys and values: `present.N.key` and so on, or `past_key_values.N.key`. Tensors stay as they are; those
 * on the GPU are fetched, and are in memory afterwards. Entries of other names that begin with `present` or `past` travel along untouched; what
 * else a run gives (logits) is left out.
 *
 * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `MODEL_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`; the signal's reason where that fired.
 */
export async function freezeTensors(tensors: object, options: FreezeCacheOptions = {}): Promise<FrozenPrefix> {
  return freezeEntries(cacheEntries(tensors), options);
}

/**
 * Feeds for a session's next run: `past_key_values.N.key` and so on. With `inputIds`, of as many tokens as the prompt begins with; `dims[2]` of any
 * of them says how many that are.
 *
 * @throws GearError `MODEL_MISMATCH` if no token serves the prompt, or for another model; `CORRUPT_DATA`; `DISPOSED`; the signal's reason.
 */
export async function thawTensors<Tensor>(
  frozen: FrozenPrefix,
  options: ThawTensorsOptions<Tensor>,
): Promise<Record<string, Tensor>> {
  return thawEntries(frozen, checkedClass('Tensor', options?.Tensor), options);
}
