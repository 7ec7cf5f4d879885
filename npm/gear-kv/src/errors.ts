/**
 * Why an operation was refused. Codes are stable: programs may branch on them, messages may be reworded.
 *
 * - `SHAPE_MISMATCH`: a length, layer or token number does not fit, or the array's buffer was moved away.
 * - `INVALID_OPTION`: an option is unknown, of the wrong type, or out of its range.
 * - `NOT_FINITE`: the input holds NaN or infinity; the message names the first one as `[batch, head, token, channel]`.
 * - `OUT_OF_RANGE`: a value cannot be held in float16 (beyond ±65504), or a result is too large to allocate.
 * - `CORRUPT_DATA`: the bytes are not a `.gear` container, or are a damaged one.
 * - `UNSUPPORTED_VERSION`: the bytes were written by a newer version of the format.
 * - `UNSUPPORTED_MODEL`: a model whose architecture, tokenizer or weights are not known here.
 * - `MODEL_MISMATCH`: a saved conversation belongs to another model.
 * - `KEY_MISMATCH`: something sealed was opened without a key or with another one, or was changed since it was sealed; or something that is
 *   not sealed was opened with a key.
 * - `DISPOSED`: the tensor or cache was used after `dispose()`.
 * - `BUSY`: a tensor was changed on the calling thread while `append()` was still at work on it, or a session while it answered.
 * - `BACKEND_UNAVAILABLE`: the native module or WebAssembly could not be loaded, or `init()` was not awaited.
 * - `IO_FAILED`: a file or stream could not be read or written; `cause` holds the system's error.
 * - `STORAGE_FULL`: a store has no room: the disk, the browser's quota, Redis's limit or the limit of a value.
 * - `ABORTED`: the computation was stopped. Promises reject with the signal's own reason instead.
 * - `INTERNAL`: a bug in gear-kv.
 */
export type GearErrorCode =
  | 'SHAPE_MISMATCH'
  | 'INVALID_OPTION'
  | 'NOT_FINITE'
  | 'OUT_OF_RANGE'
  | 'CORRUPT_DATA'
  | 'UNSUPPORTED_VERSION'
  | 'UNSUPPORTED_MODEL'
  | 'MODEL_MISMATCH'
  | 'KEY_MISMATCH'
  | 'DISPOSED'
  | 'BUSY'
  | 'BACKEND_UNAVAILABLE'
  | 'IO_FAILED'
  | 'STORAGE_FULL'
  | 'ABORTED'
  | 'INTERNAL';

// The package is loaded as several bundles (gear-kv, gear-kv/wasm, their CommonJS twins). A registered symbol lets
// `instanceof GearError` hold between them, where the classes themselves are different objects.
const brand = Symbol.for('gear-kv.GearError');

/** The one error class that this package throws. Its message says what was given, what was expected and what to do. */
export class GearError extends Error {
  /** The stable reason. */
  readonly code: GearErrorCode;

  /**
   * @param code - The stable reason.
   * @param message - What was given, what was expected, what to do.
   * @param options - `cause`: the error underneath, if any.
   */
  constructor(code: GearErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'GearError';
    this.code = code;
    Object.defineProperty(this, brand, { value: true });
  }

  /** True for a `GearError` of any copy of this package; subclasses keep the ordinary meaning. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (!isBaseClass(this)) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && brand in value;
  }
}

// Outside of the class: the bundler renames a class that names itself in its body, and users would see that.
function isBaseClass(candidate: unknown): boolean {
  return candidate === GearError;
}

/** Describes a value in an error message: short, and without its contents. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value === 'string') return value.length > 60 ? `a string of ${value.length} characters` : `'${value}'`;
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'symbol') return 'a symbol';
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (ArrayBuffer.isView(value))
    return `${Object.prototype.toString.call(value).slice(8, -1)} of ${value.byteLength} bytes`;
  return `an object (${Object.prototype.toString.call(value).slice(8, -1)})`;
}
