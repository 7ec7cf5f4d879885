import { describe, GearError } from '../errors.js';
import type { KvData } from '../kv-array.js';

/**
 * What is needed of a tensor of onnxruntime, or of transformers.js, which wraps one as `ort_tensor`. Types only: neither is imported.
 */
export interface TensorLike {
  /** `float32`, `float16`, `int64` and so on. */
  readonly type: string;
  /** Its shape. */
  readonly dims: readonly number[];
  /** Its numbers, where they are in memory that JavaScript sees. */
  readonly data: unknown;
  /** Where they are: `cpu`, `gpu-buffer` and so on. */
  readonly location?: string;
  /** Fetches them from where they are. */
  getData?(release?: boolean): Promise<unknown>;
  /** Gives its memory back. */
  dispose?(): unknown;
}

/** The class that makes such tensors: the `Tensor` of onnxruntime or of transformers.js. */
// biome-ignore lint/suspicious/noExplicitAny: both libraries type these parameters with types of their own, which only they have.
export type TensorClass<Tensor> = new (type: any, data: any, dims: any) => Tensor;

/** Tensors by the names that a model's inputs have. */
export type Entries = Record<string, TensorLike>;

/** Checks that something is a tensor. */
export function checkedTensor(name: string, tensor: unknown): TensorLike {
  const { type, dims } = (tensor ?? {}) as Partial<TensorLike>;
  if (typeof type !== 'string' || !Array.isArray(dims)) {
    throw new GearError('SHAPE_MISMATCH', `${name} is ${describe(tensor)}; expected a tensor with type, dims and data`);
  }
  return tensor as TensorLike;
}

/** True where JavaScript can read the numbers without waiting. */
export function isInMemory(tensor: TensorLike): boolean {
  const { location } = tensor;
  return location === undefined || location === 'cpu' || location === 'cpu-pinned';
}

/** The numbers of a tensor that is in memory. */
export function dataInMemory(name: string, tensor: TensorLike): ArrayBufferView {
  const { data } = tensor;
  if (!ArrayBuffer.isView(data)) {
    throw new GearError('SHAPE_MISMATCH', `${name} holds ${describe(data)}; expected a typed array`);
  }
  return data;
}

/**
 * The numbers of a tensor, from wherever they are. onnxruntime's tensor is in memory afterwards, and its buffer elsewhere is given back with
 * `release`, or else by its `dispose`.
 */
export async function downloaded(name: string, tensor: TensorLike, release: boolean): Promise<ArrayBufferView> {
  if (isInMemory(tensor)) return dataInMemory(name, tensor);
  // Only onnxruntime's own tensor can be waited for; `data` of the one around it throws.
  const inner = (tensor as { ort_tensor?: TensorLike }).ort_tensor ?? tensor;
  let data: unknown;
  try {
    data = await inner.getData?.(release);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new GearError('IO_FAILED', `${name} could not be fetched from ${tensor.location}: ${why}`, { cause });
  }
  if (!ArrayBuffer.isView(data)) {
    throw new GearError('IO_FAILED', `${name} is at ${tensor.location}, and has no getData() that gives a typed array`);
  }
  return data;
}

/** Numbers of keys or values as the core takes them. By the tensor's type: which class holds float16 depends on the runtime. */
export function kvData(name: string, type: string, data: ArrayBufferView): KvData {
  const width = (data as Partial<Uint16Array>).BYTES_PER_ELEMENT;
  if (type === 'float16' && width === 2) return new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  if (type === 'float32' && data instanceof Float32Array) return data;
  throw new GearError(
    'SHAPE_MISMATCH',
    `${name} has type ${type} and holds ${describe(data)}; expected float32 or float16`,
  );
}
