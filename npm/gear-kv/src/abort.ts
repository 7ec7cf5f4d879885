import type { CancelHandle } from './backend/binding.js';
import { describe, GearError } from './errors.js';

/** Checks that an option is an `AbortSignal`. */
export function checkedSignal(signal: unknown): AbortSignal | undefined {
  if (signal === undefined) return undefined;
  // Structural: polyfills and other realms have their own class.
  const candidate = signal as Partial<AbortSignal> | null;
  if (typeof candidate?.aborted !== 'boolean' || typeof candidate.addEventListener !== 'function') {
    throw new GearError('INVALID_OPTION', `signal is ${describe(signal)}; expected an AbortSignal`);
  }
  return candidate as AbortSignal;
}

/**
 * Waits for background work, and stops waiting as soon as the signal fires: the promise rejects with the signal's
 * reason while the core is still winding down. `discard` gets a result that came too late.
 */
export function withCancel<Result>(
  work: (cancel: CancelHandle) => Promise<Result>,
  cancel: CancelHandle,
  signal: AbortSignal | undefined,
  discard: (late: Result) => void = () => {},
): Promise<Result> {
  if (signal === undefined) return work(cancel);
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise<Result>((resolve, reject) => {
    let stopped = false;
    const onAbort = (): void => {
      stopped = true;
      cancel.cancel();
      reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    const finished = (): void => signal.removeEventListener('abort', onAbort);
    work(cancel).then(
      (result) => {
        finished();
        if (stopped) discard(result);
        else resolve(result);
      },
      (error) => {
        finished();
        if (!stopped) reject(error);
      },
    );
  });
}

/** Waits for work, but no longer than until the signal fires: then the promise rejects with the signal's reason. */
export function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (signal === undefined) return work;
  return new Promise<Result>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * Lets the event loop turn once, so that a promise-returning call on a backend without threads at least yields
 * before it computes. Rejects with the signal's reason if that fires first.
 */
export async function turn(signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  await macrotask();
  signal?.throwIfAborted();
}

function macrotask(): Promise<void> {
  const { setImmediate: immediate } = globalThis as { setImmediate?: (callback: () => void) => void };
  if (immediate !== undefined) return new Promise((resolve) => immediate(resolve));
  // Not setTimeout: browsers delay nested timers by 4 ms, and by a second in tabs in the background.
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
}
