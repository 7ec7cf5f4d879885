import { withCancel } from '../abort.js';
import { loadAddon } from '../backend/addon.js';
import type { CancelHandle } from '../backend/binding.js';
import { gearError } from '../backend/failure.js';
import type { Engine } from './binding.js';

/** The loader that `napi build` writes beside the engine's module; it falls back to the per-platform packages. */
const LOADER = './native-llm/index.cjs';

let loaded: Engine | undefined;

/** Loads the engine, once. Throws `BACKEND_UNAVAILABLE` with every path that was tried. */
export function engine(): Engine {
  loaded ??= loadAddon<Engine>(LOADER, 'the engine of gear-kv/llm', 'Reinstall gear-kv with optional dependencies');
  return loaded;
}

/**
 * Waits for work of the engine. It rejects as soon as the signal fires, with the signal's reason, while the engine is still
 * winding down; `discard` gets what came too late. Every other failure is a `GearError`.
 */
export async function awaited<Result>(
  work: (cancel: CancelHandle) => Promise<Result>,
  signal: AbortSignal | undefined,
  discard?: (late: Result) => void,
): Promise<Result> {
  try {
    return await withCancel(work, new (engine().Cancel)(), signal, discard);
  } catch (error) {
    throw signal?.aborted ? error : gearError(error);
  }
}
