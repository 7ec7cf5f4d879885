import { GearError } from '../errors.js';

/** What a store says of a value. */
export interface StoreEntry {
  /** What it was put under. */
  readonly name: string;
  /** Its length. */
  readonly byteLength: number;
  /** When it was put or touched last, in milliseconds since 1970. */
  readonly usedAt: number;
}

/** Options of the calls that move bytes. */
export interface StoreCallOptions {
  /** Stops the call, with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Named values of bytes. Names have 1 to 200 of `A-Z a-z 0-9 _ - .` and do not begin with a dot. All methods reject with a `GearError`: `IO_FAILED`, or
 * `STORAGE_FULL` where there is no room.
 */
export interface Store {
  /** A value's bytes, or undefined where there is none. */
  get(name: string, options?: StoreCallOptions): Promise<AsyncIterable<Uint8Array> | undefined>;
  /** Keeps a value of at least one byte in place of what was there. Until it is whole, others see the old value, and after a crash, too. */
  put(name: string, bytes: AsyncIterable<Uint8Array>, options?: StoreCallOptions): Promise<void>;
  /** Forgets a value, where there is one. */
  delete(name: string): Promise<void>;
  /** What there is, in no order. */
  list(): Promise<StoreEntry[]>;
  /** Notes that a value was used, where there is one. */
  touch(name: string): Promise<void>;
}

/** Checks a name. @throws GearError `INVALID_OPTION`. */
export function checkedName(name: unknown): string {
  if (typeof name === 'string' && /^[\w-][\w.-]{0,199}$/.test(name)) return name;
  throw new GearError(
    'INVALID_OPTION',
    `the name is ${JSON.stringify(name)}; expected 1 to 200 of A-Z a-z 0-9 _ - . and no dot in front`,
  );
}

const FULL = new Set(['ENOSPC', 'EDQUOT', 'QuotaExceededError']);

/** What went wrong in a store, as this package says it. */
export function storeError(what: string, cause: unknown): unknown {
  const { code, name } = systemError(cause);
  const full = FULL.has(String(code)) || FULL.has(String(name));
  if (cause instanceof GearError && !full) return cause;
  const message = cause instanceof Error ? cause.message : String(cause);
  if (full) {
    return new GearError('STORAGE_FULL', `${what}: there is no room (${message}); free some, or keep less`, { cause });
  }
  return new GearError('IO_FAILED', `${what}: ${message}`, { cause });
}

/** The error underneath: `writeFileAtomically` has wrapped it. */
function systemError(cause: unknown): { code?: unknown; name?: unknown } {
  const inner = cause instanceof GearError ? cause.cause : cause;
  return typeof inner === 'object' && inner !== null ? inner : {};
}

/** The result, or undefined where there is no such file. */
export async function absent<Result>(work: Promise<Result>): Promise<Result | undefined> {
  try {
    return await work;
  } catch (error) {
    const { code, name } = systemError(error);
    if (code === 'ENOENT' || name === 'NotFoundError') return undefined;
    throw error;
  }
}

/** Pieces, until the signal fires. */
export async function* stoppable(
  bytes: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  signal?.throwIfAborted();
  for await (const piece of bytes) {
    signal?.throwIfAborted();
    yield piece;
    signal?.throwIfAborted();
  }
}

/** Runs a store's work. A signal's reason goes through as it is. */
export async function storing<Result>(
  what: string,
  signal: AbortSignal | undefined,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    signal?.throwIfAborted();
    return await work();
  } catch (cause) {
    if (signal?.aborted === true) throw signal.reason;
    throw storeError(what, cause);
  }
}
