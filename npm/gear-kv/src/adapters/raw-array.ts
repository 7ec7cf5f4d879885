import type { About, AboutArray } from '../about.js';
import { describe, GearError } from '../errors.js';
import { bearing } from './layout.js';
import { rowsOf } from './rows.js';
import { downloaded, type TensorClass, type TensorLike } from './tensor.js';

/** Types of onnxruntime's tensors, as safetensors names them, and the arrays that hold them. */
const TYPES = {
  float32: ['F32', Float32Array],
  float16: ['F16', Uint16Array],
  float64: ['F64', Float64Array],
  int64: ['I64', BigInt64Array],
  uint64: ['U64', BigUint64Array],
  int32: ['I32', Int32Array],
  uint32: ['U32', Uint32Array],
  int16: ['I16', Int16Array],
  uint16: ['U16', Uint16Array],
  int8: ['I8', Int8Array],
  uint8: ['U8', Uint8Array],
  bool: ['BOOL', Uint8Array],
} as const;

/** An entry that travels along, copied. */
export function rawArray(name: string, { type, dims }: TensorLike, data: ArrayBufferView): AboutArray {
  const [dtype] = TYPES[type as keyof typeof TYPES] ?? [];
  if (dtype === undefined) {
    const known = Object.keys(TYPES).join(', ');
    throw new GearError(
      'INVALID_OPTION',
      `${name} has type ${describe(type)}, which cannot travel along; expected ${known}`,
    );
  }
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
  return { dtype, shape: [...dims], data: bytes };
}

/** What is saved of a cache that entries travel with; what is on a GPU is fetched, and given back there. */
export async function withRawArrays(about: About, others: Iterable<readonly [string, TensorLike]>): Promise<About> {
  const arrays: Record<string, AboutArray> = {};
  for (const [name, tensor] of others) arrays[name] = rawArray(name, tensor, await downloaded(name, tensor, true));
  return Object.keys(arrays).length === 0 ? about : { ...about, arrays };
}

/** The entry again, with the first `kept` of the cache's `tokens`. */
export function rawTensor<Tensor>(
  Tensor: TensorClass<Tensor>,
  name: string,
  { dtype, shape, data }: AboutArray,
  tokens: number,
  kept: number,
): Tensor {
  const found = Object.entries(TYPES).find(([, [named]]) => named === dtype);
  if (found === undefined) throw new GearError('CORRUPT_DATA', `${name} has the dtype ${dtype}, which no tensor has`);
  const [type, [, Numbers]] = found;
  const [batch = 0, heads = 0, , width = 0] = shape;
  const cut = bearing(name, shape, tokens) === 'rows' && kept < tokens;
  const rows = cut ? rowsOf(data, tokens, width * Numbers.BYTES_PER_ELEMENT, 0, kept) : data.slice();
  const dims = cut ? [batch, heads, kept, width] : [...shape];
  // onnxruntime-node ignores byteOffset: the array owns its buffer.
  return new Tensor(type, new Numbers(rows.buffer as ArrayBuffer), dims);
}
