import { type AttendOptions, attendJson, type CacheShape } from './cache-options.js';
import { type KvArray, type KvData, kvArray, outputArray } from './kv-array.js';
import { checkedOptions } from './options.js';
import { checkedCount, tokensOf } from './shape.js';

/** What {@link GearCache.attend} was given, checked, as the bindings take it. */
export interface AttendInput {
  readonly query: KvArray;
  /** Query positions. */
  readonly positions: number;
  /** How they attend. */
  readonly json: string;
  readonly out: Float32Array;
}

/** Checks queries, whose number of positions follows from their length, and where the output goes. */
export function attendInput(shape: CacheShape, query: KvData, options: AttendOptions): AttendInput {
  const checked = checkedOptions<AttendOptions>('the third argument of attend', options);
  const queryHeads = checkedCount('queryHeads', checked.queryHeads, 1);
  const json = attendJson(checked);
  const q = kvArray('query', query);
  const { batch, headDim } = shape;
  const layout = `[${batch}, ${queryHeads}, n, ${headDim}]`;
  const positions = tokensOf('query', q.data.length, batch * queryHeads * headDim, layout);
  return { query: q, positions, json, out: outputArray('out', checked.out, q.data.length, 'the length of query') };
}

/** The core borrows both arrays at once: where they overlap, the input is copied. */
export function separate<Data extends Float32Array | Uint16Array>(input: Data, out: Float32Array): Data {
  const overlaps =
    input.buffer === out.buffer &&
    input.byteOffset < out.byteOffset + out.byteLength &&
    out.byteOffset < input.byteOffset + input.byteLength;
  return overlaps ? (input.slice() as Data) : input;
}
