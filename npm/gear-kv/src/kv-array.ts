import { describe, GearError } from './errors.js';

/** The part of `Float16Array` that is needed here, so that types hold with any `lib` setting. */
export interface Float16ArrayLike {
  readonly [Symbol.toStringTag]: 'Float16Array';
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly length: number;
}

/**
 * Numbers of a K, V or query tensor: float32, or float16 as a `Float16Array` or as a `Uint16Array` of IEEE binary16 bits.
 *
 * Arrays may be part of a larger buffer. They are read in place, except where the buffer is shared or resizable,
 * in which case they are copied first.
 */
export type KvData = Float32Array | Uint16Array | Float16ArrayLike;

/** Input as the bindings take it: float16 is always bits. */
export type KvArray =
  | { readonly kind: 'f32'; readonly data: Float32Array }
  | { readonly kind: 'f16'; readonly data: Uint16Array };

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

/** A transferred or `structuredClone`d-away buffer reads as empty: say so instead of reporting a wrong length. */
function refuseMoved(name: string, array: ArrayBufferView): void {
  const buffer = array.buffer as ArrayBuffer & { detached?: boolean };
  // `detached` is missing before Node 21 and Safari 17.4; there a length-0 buffer that cannot be viewed gives it away.
  const moved = buffer.detached ?? (buffer.byteLength === 0 && !viewable(buffer));
  if (moved) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `${name}: the array's buffer was moved away (transferred or detached); pass it before transferring it, or pass a copy`,
    );
  }
}

function viewable(buffer: ArrayBufferLike): boolean {
  try {
    return new Uint8Array(buffer).length >= 0;
  } catch {
    return false;
  }
}

/** True where another thread, or a resize, could change the memory under the core's feet. */
function canChangeUnderfoot(buffer: ArrayBufferLike): boolean {
  if (typeof SharedArrayBuffer !== 'undefined' && buffer instanceof SharedArrayBuffer) return true;
  // Structural, so that a SharedArrayBuffer of another realm is caught as well.
  if (tagOf(buffer) === 'SharedArrayBuffer') return true;
  return (buffer as { resizable?: boolean }).resizable === true;
}

/** Checks input and views it as the bindings take it; nothing is copied unless the buffer is shared or resizable. */
export function kvArray(name: string, data: unknown): KvArray {
  const tag = ArrayBuffer.isView(data) ? tagOf(data) : '';
  if (tag !== 'Float32Array' && tag !== 'Uint16Array' && tag !== 'Float16Array') {
    throw new GearError(
      'SHAPE_MISMATCH',
      `${name} is ${describe(data)}; expected a Float32Array, a Float16Array, or a Uint16Array of float16 bits`,
    );
  }
  const view = data as Float32Array | Uint16Array;
  refuseMoved(name, view);
  const copy = canChangeUnderfoot(view.buffer);
  if (tag === 'Float32Array') {
    const floats = view as Float32Array;
    return { kind: 'f32', data: copy ? new Float32Array(floats) : floats };
  }
  const bits =
    tag === 'Uint16Array' ? (view as Uint16Array) : new Uint16Array(view.buffer, view.byteOffset, view.length);
  return { kind: 'f16', data: copy ? new Uint16Array(bits) : bits };
}

/** A copy that the caller cannot change any more, for work that starts later. */
export function ownedKvArray(input: KvArray): KvArray {
  return input.kind === 'f32' ? { kind: 'f32', data: input.data.slice() } : { kind: 'f16', data: input.data.slice() };
}

/** Checks an array that results are written into: a `Float32Array` of exactly `length`, or a new one. */
export function outputArray(name: string, out: unknown, length: number, layout: string): Float32Array {
  if (out === undefined) return newFloat32Array(length);
  if (!ArrayBuffer.isView(out) || tagOf(out) !== 'Float32Array') {
    throw new GearError('SHAPE_MISMATCH', `${name} is ${describe(out)}; expected a Float32Array of ${length} elements`);
  }
  refuseMoved(name, out);
  const floats = out as Float32Array;
  if (floats.length !== length) {
    throw new GearError('SHAPE_MISMATCH', `${name} has ${floats.length} elements; expected ${length} (${layout})`);
  }
  return floats;
}

/** Runs `write` on `out`, through a private array where `out` is shared or resizable memory. */
export function writeInto(out: Float32Array, write: (target: Float32Array) => void): Float32Array {
  if (!canChangeUnderfoot(out.buffer)) {
    write(out);
    return out;
  }
  const target = newFloat32Array(out.length);
  write(target);
  out.set(target);
  return out;
}

/** A `Float32Array` of `length`, or an error that says how large it would have been. */
export function newFloat32Array(length: number): Float32Array {
  try {
    return new Float32Array(length);
  } catch (cause) {
    throw new GearError(
      'OUT_OF_RANGE',
      `a result of ${length} float32 elements cannot be allocated here; work on fewer tokens or layers at a time`,
      { cause },
    );
  }
}

/** Checks bytes and views them as a `Uint8Array`; shared or resizable memory is copied. */
export function byteArray(name: string, bytes: unknown): Uint8Array {
  const isBuffer = tagOf(bytes) === 'ArrayBuffer' || tagOf(bytes) === 'SharedArrayBuffer';
  if (!isBuffer && !ArrayBuffer.isView(bytes)) {
    throw new GearError('SHAPE_MISMATCH', `${name} is ${describe(bytes)}; expected a Uint8Array or an ArrayBuffer`);
  }
  if (ArrayBuffer.isView(bytes)) refuseMoved(name, bytes);
  const view = ArrayBuffer.isView(bytes)
    ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    : bufferBytes(name, bytes as ArrayBuffer);
  return canChangeUnderfoot(view.buffer) ? new Uint8Array(view) : view;
}

function bufferBytes(name: string, buffer: ArrayBuffer): Uint8Array {
  if (!viewable(buffer)) {
    throw new GearError('SHAPE_MISMATCH', `${name}: the ArrayBuffer was moved away (transferred or detached)`);
  }
  return new Uint8Array(buffer);
}
