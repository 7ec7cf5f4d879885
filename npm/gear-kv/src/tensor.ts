/// <reference lib="esnext.disposable" preserve="true" />

import type { Backend, TensorHandle } from './backend/binding.js';
import { guarded } from './backend/failure.js';
import type { BackendChoice } from './backend/selection.js';
import { GearError } from './errors.js';
import { checkedBytes } from './from-bytes.js';
import type { ResolvedGearOptions, Role } from './options.js';
import { checkedCount, elementCount, type ResolvedKvShape } from './shape.js';

/** Bytes that each part of a compressed tensor takes. They add up to `byteLength`. */
export interface Parts {
  /** Codes of the backbone. */
  readonly codes: number;
  /** Scales and zeros of the backbone. */
  readonly scales: number;
  /** Factors A and B of the low-rank part. */
  readonly lowRank: number;
  /** Outliers: values and their indices. */
  readonly sparse: number;
  /** Tokens at the start that are kept in full precision. */
  readonly sinks: number;
  /** The newest tokens, which wait to become a segment. */
  readonly buffer: number;
  /** What it takes to describe the rest. */
  readonly headers: number;
}

interface TensorInfo {
  role: Role;
  shape: ResolvedKvShape;
  config: ResolvedGearOptions;
  byteLength: number;
  float16ByteLength: number;
  parts: Parts;
}

/** Where a {@link CompressedTensor} stands; shared by the functions that work on it. */
export interface TensorState {
  readonly backend: Backend;
  handle: TensorHandle | undefined;
  info: TensorInfo | undefined;
  /** The last append that is still at work, so that the next one waits for it. */
  pending: Promise<unknown> | undefined;
}

// Registered, not private: a tensor of `gear-kv/wasm` can be handed to functions of `gear-kv`.
const stateKey = Symbol.for('gear-kv.CompressedTensor');

/** Makes a {@link CompressedTensor}; its constructor is nobody else's business. */
export let packedTensor: (backend: Backend, handle: TensorHandle) => CompressedTensor;

/** Options of {@link CompressedTensor.fromBytes}. */
export interface FromBytesOptions {
  /** Which backend holds the result. Default: this entry point's. */
  backend?: BackendChoice;
}

/**
 * One K or V tensor, compressed: `X ≈ D̂ + L + S` for every segment of its tokens, and the newest tokens as they came.
 * Made by `compress` and by `CompressedTensor.fromBytes`.
 */
export class CompressedTensor {
  /** @internal */
  declare readonly [stateKey]: TensorState;

  static {
    // `this`: the bundler renames a class that names itself in its body, and users would see that.
    packedTensor = (backend, handle) => new this(backend, handle);
  }

  private constructor(backend: Backend, handle: TensorHandle) {
    const state: TensorState = { backend, handle, info: undefined, pending: undefined };
    // Not enumerable: printing or comparing a tensor must not walk into the binding's objects.
    Object.defineProperty(this, stateKey, { value: state });
  }

  /**
   * Restores a tensor from {@link toBytes}, `bytes` being untrusted: damage is found by checksum and structure.
   *
   * @throws GearError `CORRUPT_DATA`, `UNSUPPORTED_VERSION`, `BACKEND_UNAVAILABLE`.
   */
  static fromBytes(bytes: Uint8Array | ArrayBuffer, options: FromBytesOptions = {}): CompressedTensor {
    const { view, backend } = checkedBytes(bytes, options);
    return packedTensor(
      backend,
      guarded(() => backend.binding.Tensor.fromBytes(view)),
    );
  }

  /** The shape `[batch, heads, tokens, headDim]` of what is held now. */
  get shape(): ResolvedKvShape {
    return { ...tensorInfo(this).shape };
  }

  /** Keys or values. */
  get role(): Role {
    return tensorInfo(this).role;
  }

  /** Tokens held, in segments, sinks and buffer together. */
  get tokens(): number {
    return tensorInfo(this).shape.tokens;
  }

  /** The settings it was made with, complete. */
  get options(): ResolvedGearOptions {
    return { ...tensorInfo(this).config };
  }

  /** Bytes of everything that is kept: codes, scales, factors, outliers, sinks, buffer and headers. */
  get byteLength(): number {
    return tensorInfo(this).byteLength;
  }

  /** Bytes that the same tokens take as float16. */
  get float16ByteLength(): number {
    return tensorInfo(this).float16ByteLength;
  }

  /** How many times smaller than float16 it is; 0 for a tensor without tokens. */
  get ratio(): number {
    const { byteLength, float16ByteLength } = tensorInfo(this);
    return float16ByteLength === 0 ? 0 : float16ByteLength / byteLength;
  }

  /** Bits kept for one element, everything counted; 0 for a tensor without tokens. */
  get bitsPerElement(): number {
    const { byteLength, shape } = tensorInfo(this);
    const elements = elementCount(shape);
    return elements === 0 ? 0 : (8 * byteLength) / elements;
  }

  /** Where the bytes go. */
  get parts(): Parts {
    return { ...tensorInfo(this).parts };
  }

  /** Which backend holds it. */
  get backend(): 'native' | 'wasm' {
    return this[stateKey].backend.name;
  }

  /**
   * A second tensor with the same content, which goes its own way from here. Segments are shared, so it costs next to
   * nothing.
   *
   * @throws GearError `DISPOSED`.
   */
  fork(): CompressedTensor {
    const handle = liveHandle(this);
    return packedTensor(
      this[stateKey].backend,
      guarded(() => handle.fork()),
    );
  }

  /**
   * Forgets every token from `tokens` on; the ones before it stay exactly as they are.
   *
   * @throws GearError `SHAPE_MISMATCH` if there are fewer tokens than that, `BUSY`, `DISPOSED`.
   */
  truncate(tokens: number): void {
    const handle = changeable(this, 'truncate');
    checkedCount('tokens', tokens, 0);
    guarded(() => handle.truncate(tokens));
    this[stateKey].info = undefined;
  }

  /** Forgets every token; shape, role and options stay. @throws GearError `BUSY`, `DISPOSED`. */
  clear(): void {
    const handle = changeable(this, 'clear');
    guarded(() => handle.clear());
    this[stateKey].info = undefined;
  }

  /** The tensor as a `.gear` container: versioned, checksummed, the same on every backend. @throws GearError `DISPOSED`. */
  toBytes(): Uint8Array {
    const handle = liveHandle(this);
    return guarded(() => handle.toBytes());
  }

  /** Gives the memory back at once. Any later use throws `DISPOSED`; disposing again does nothing. */
  dispose(): void {
    const state = this[stateKey];
    const { handle } = state;
    state.handle = undefined;
    state.info = undefined;
    if (handle !== undefined) guarded(() => handle.release());
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  /** What `console.log` and `JSON.stringify` show. */
  toJSON(): object {
    if (this[stateKey].handle === undefined) return { disposed: true };
    const { role, shape, config, byteLength, parts } = tensorInfo(this);
    return { role, shape, options: config, byteLength, parts };
  }
}

/** The state behind a tensor of any copy of this package. */
export function tensorState(tensor: unknown): TensorState {
  const state = (tensor as Partial<CompressedTensor> | null | undefined)?.[stateKey];
  if (state === undefined) {
    throw new GearError(
      'INVALID_OPTION',
      'the first argument is not a CompressedTensor; pass what compress() or CompressedTensor.fromBytes() returned',
    );
  }
  return state;
}

/** The Rust side of a tensor that has not been disposed of. */
export function liveHandle(tensor: CompressedTensor): TensorHandle {
  const { handle } = tensorState(tensor);
  if (handle === undefined) {
    throw new GearError('DISPOSED', 'this CompressedTensor was disposed of; fork() it before, or compress again');
  }
  return handle;
}

/** The Rust side of a tensor that may be changed now. */
export function changeable(tensor: CompressedTensor, operation: string): TensorHandle {
  const handle = liveHandle(tensor);
  if (tensorState(tensor).pending !== undefined) {
    throw new GearError('BUSY', `${operation}: an append() to this tensor is still at work; await it first`);
  }
  return handle;
}

/** What the core says about a tensor; asked once after every change. */
export function tensorInfo(tensor: CompressedTensor): TensorInfo {
  const handle = liveHandle(tensor);
  const state = tensorState(tensor);
  state.info ??= JSON.parse(guarded(() => handle.info())) as TensorInfo;
  return state.info;
}
