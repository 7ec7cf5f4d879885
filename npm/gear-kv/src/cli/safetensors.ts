import type { Backend } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import { GearError } from '../errors.js';
import type { KvData } from '../kv-array.js';
import type { Role } from '../options.js';
import type { ResolvedKvShape } from '../shape.js';

/** One tensor of a safetensors file; `begin` and `end` are byte offsets in the file. */
export interface SafetensorsEntry {
  name: string;
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

/** What a safetensors file holds, in the order of its bytes. */
export function safetensorsEntries(backend: Backend, file: Uint8Array): SafetensorsEntry[] {
  const entries = JSON.parse(guarded(() => backend.binding.safetensorsIndex(file))) as SafetensorsEntry[];
  return entries.sort((a, b) => a.begin - b.begin || (a.name < b.name ? -1 : 1));
}

/** The file's own `__metadata__`: text by name. */
export function safetensorsMetadata(backend: Backend, file: Uint8Array): Record<string, string> {
  return JSON.parse(guarded(() => backend.binding.safetensorsMetadata(file))) as Record<string, string>;
}

/** Element types that can be compressed. */
export type CompressibleType = 'F32' | 'F16' | 'BF16';

/** True for the element types that can be compressed. */
export function isCompressible(dtype: string): dtype is CompressibleType {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}

/** The K or V shape of a tensor `[heads, tokens, headDim]` or `[batch, heads, tokens, headDim]`. */
export function kvShapeOf(shape: readonly number[]): ResolvedKvShape | undefined {
  if (shape.length !== 3 && shape.length !== 4) return undefined;
  const [batch, heads, tokens, headDim] = shape.length === 3 ? [1, ...shape] : shape;
  if (batch === undefined || heads === undefined || tokens === undefined || headDim === undefined) return undefined;
  return batch > 0 && heads > 0 && headDim > 0 ? { batch, heads, tokens, headDim } : undefined;
}

/**
 * Keys or values, by name: the last word that says so decides (`past_key_values.3.value` is a value). Undefined for a
 * tensor that is neither.
 */
export function roleOf(name: string): Role | undefined {
  const words = name
    .toLowerCase()
    .replace(/key_?values?/g, '')
    .matchAll(/key|value|(?<![a-z0-9])[kv](?![a-z0-9])/g);
  const last = [...words].at(-1)?.[0];
  if (last === undefined) return undefined;
  return last.startsWith('k') ? 'key' : 'value';
}

/** The numbers of one tensor, as the facade takes them. BF16 is widened to float32, which is exact. */
export function tensorData(backend: Backend, file: Uint8Array, entry: SafetensorsEntry): KvData {
  // A copy starts at offset 0: in the file a tensor may lie at an offset that no typed array can view.
  const { buffer } = file.slice(entry.begin, entry.end);
  if (entry.dtype === 'F32') return new Float32Array(buffer);
  const bits = new Uint16Array(buffer);
  if (entry.dtype === 'F16') return bits;
  if (entry.dtype === 'BF16') return guarded(() => backend.binding.widenHalf(bits, 'bf16'));
  throw new GearError('INVALID_OPTION', `${entry.name} is ${entry.dtype}; expected F32, F16 or BF16`);
}

/** Float32 numbers as the bytes of an element type. */
export function tensorBytes(backend: Backend, floats: Float32Array, dtype: CompressibleType): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(floats.buffer, floats.byteOffset, floats.byteLength);
  const kind = dtype === 'F16' ? 'f16' : 'bf16';
  const bits = guarded(() => backend.binding.narrowHalf(floats, kind));
  return new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength);
}

/** A tensor to be written. */
export interface OutgoingTensor {
  name: string;
  dtype: string;
  shape: readonly number[];
  bytes: Uint8Array;
}

/** A safetensors file of these tensors, with its own `__metadata__`. */
export function safetensorsFile(
  backend: Backend,
  tensors: readonly OutgoingTensor[],
  metadata: Readonly<Record<string, string>> | undefined,
): Uint8Array {
  const payload = new Uint8Array(tensors.reduce((total, { bytes }) => total + bytes.length, 0));
  let position = 0;
  const entries: SafetensorsEntry[] = tensors.map(({ name, dtype, shape, bytes }) => {
    payload.set(bytes, position);
    const begin = position;
    position += bytes.length;
    return { name, dtype, shape: [...shape], begin, end: position };
  });
  return guarded(() => backend.binding.safetensorsSerialize(JSON.stringify({ entries, metadata }), payload));
}
