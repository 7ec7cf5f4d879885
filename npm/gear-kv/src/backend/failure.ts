import { GearError, type GearErrorCode } from '../errors.js';

const codes: ReadonlySet<string> = new Set<GearErrorCode>([
  'SHAPE_MISMATCH',
  'INVALID_OPTION',
  'NOT_FINITE',
  'OUT_OF_RANGE',
  'CORRUPT_DATA',
  'UNSUPPORTED_VERSION',
  'UNSUPPORTED_MODEL',
  'MODEL_MISMATCH',
  'KEY_MISMATCH',
  'DISPOSED',
  'BUSY',
  'BACKEND_UNAVAILABLE',
  'IO_FAILED',
  'STORAGE_FULL',
  'ABORTED',
  'INTERNAL',
] satisfies GearErrorCode[]);

let lastPanic: () => string | undefined = () => undefined;

/** WebAssembly cannot carry a panic's message in its trap; `tell` asks the module for it afterwards. */
export function explainTraps(tell: () => string | undefined): void {
  lastPanic = tell;
}

function panicMessage(): string | undefined {
  try {
    return lastPanic();
  } catch {
    // The module may be beyond answering.
    return undefined;
  }
}

/** Turns what a binding threw into a {@link GearError}; the bindings write `[gearkv:CODE] text`. */
export function gearError(cause: unknown): GearError {
  if (cause instanceof GearError) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  const match = /^\[gearkv:([A-Z_]+)\] ?([\s\S]*)$/.exec(message);
  if (match?.[1] !== undefined && codes.has(match[1])) {
    return new GearError(match[1] as GearErrorCode, match[2] ?? '', { cause });
  }
  const trapped = typeof WebAssembly !== 'undefined' && cause instanceof WebAssembly.RuntimeError;
  const what = trapped ? `the WebAssembly module stopped: ${panicMessage() ?? message}` : `the core failed: ${message}`;
  return new GearError('INTERNAL', `${what}. This is a bug in gear-kv; please report it with the call that led here`, {
    cause,
  });
}

/** Runs a call into a binding; whatever it throws becomes a {@link GearError}. */
export function guarded<Result>(call: () => Result): Result {
  try {
    return call();
  } catch (error) {
    throw gearError(error);
  }
}

/** Waits for background work of a binding; its failure becomes a {@link GearError}. */
export async function settled<Result>(work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (error) {
    throw gearError(error);
  }
}
