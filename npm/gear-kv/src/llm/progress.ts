import type { ProgressHandle } from './binding.js';
import { engine } from './engine.js';

/** How far work has come. */
export interface WorkProgress {
  readonly done: number;
  readonly total: number;
}

const POLL_MS = 100;

/**
 * Does work of the engine and tells `listen` now and then how far it has come, and once when it is done. An error of the
 * listener stops the work and is what the promise rejects with, just as the signal's reason.
 */
export async function watched<Result>(
  work: (progress: ProgressHandle, signal: AbortSignal | undefined) => Promise<Result>,
  signal: AbortSignal | undefined,
  listen: ((progress: WorkProgress) => void) | undefined,
): Promise<Result> {
  const progress = new (engine().Progress)();
  if (listen === undefined) return work(progress, signal);
  const stop = new AbortController();
  const forward = (): void => stop.abort(signal?.reason);
  if (signal?.aborted === true) forward();
  signal?.addEventListener('abort', forward, { once: true });
  let told: number | undefined;
  const tell = (): void => {
    const [done, total] = [progress.done(), progress.total()];
    if (total === 0 || done === told) return;
    told = done;
    listen({ done, total });
  };
  const poll = setInterval(() => {
    try {
      tell();
    } catch (error) {
      clearInterval(poll);
      stop.abort(error);
    }
  }, POLL_MS);
  try {
    const result = await work(progress, stop.signal);
    tell();
    return result;
  } finally {
    clearInterval(poll);
    signal?.removeEventListener('abort', forward);
  }
}
