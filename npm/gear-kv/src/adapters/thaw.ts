import { checkedSignal, turn } from '../abort.js';
import { GearError } from '../errors.js';
import { HALVES, type Layout } from './layout.js';
import type { FrozenPrefix, MatchOptions } from './prefix.js';
import { rawTensor } from './raw-array.js';
import { float16Bits, rowsOf } from './rows.js';
import type { TensorClass } from './tensor.js';

/** Options of `thawCache` and `thawTensors`, beside the classes of the library. */
export interface ThawCacheOptions extends MatchOptions {
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** How long JavaScript's thread may be kept before the event loop gets a turn. */
const SLICE_MS = 8;

/** Entries for a model, as tensors of the caller's class, all of them in memory. */
export async function thawEntries<Tensor>(
  frozen: FrozenPrefix,
  Tensor: TensorClass<Tensor>,
  options: ThawCacheOptions,
): Promise<Record<string, Tensor>> {
  const signal = checkedSignal(options.signal);
  signal?.throwIfAborted();
  const kept = frozen.usable(options);
  const { cache, layout, about } = frozen;
  const entries: Record<string, Tensor> = {};
  let since = performance.now();
  for (const layer of layout.layers.keys()) {
    for (const half of HALVES) {
      if (performance.now() - since > SLICE_MS) {
        await turn(signal);
        since = performance.now();
      }
      entries[`${layout.layers[layer]}.${half}`] = kvTensor(Tensor, layout, cache[half](layer), kept);
    }
  }
  for (const [name, array] of Object.entries(about.arrays ?? {})) {
    entries[name] = rawTensor(Tensor, name, array, frozen.tokens, kept);
  }
  return entries;
}

/** One half of one layer, decompressed, as a tensor of its first `kept` tokens. */
export function kvTensor<Tensor>(
  Tensor: TensorClass<Tensor>,
  { type, batch, kvHeads, headDim }: Layout,
  values: Float32Array,
  kept: number,
): Tensor {
  const tokens = values.length / (batch * kvHeads * headDim);
  const rows = rowsOf(values, tokens, headDim, 0, kept);
  return new Tensor(type, type === 'float16' ? float16Bits(rows) : rows, [batch, kvHeads, kept, headDim]);
}

/** Checks a class of the caller's library. */
export function checkedClass<Class>(name: string, given: Class): Class {
  if (typeof given !== 'function') {
    throw new GearError(
      'INVALID_OPTION',
      `${name} is missing; pass the class of that name of the library that runs the model`,
    );
  }
  return given;
}
