import { fileURLToPath } from 'node:url';
import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, refuseUnknown } from '../options.js';
import { awaited, engine } from './engine.js';
import { type WorkProgress, watched } from './progress.js';
import { checkedListener } from './settings.js';

/** Types of weights that {@link requantizeModel} writes. */
export type WeightType = 'F32' | 'F16' | 'Q4_0' | 'Q4_1' | 'Q5_0' | 'Q5_1' | 'Q8_0' | 'Q4_K_M' | 'Q6_K';

/** Options of {@link requantizeModel}. */
export interface RequantizeOptions {
  readonly weights: WeightType;
  /** Stops it, with the signal's reason; nothing is written then. */
  readonly signal?: AbortSignal;
  /** Told now and then how many of the model's tensors are done. */
  readonly onProgress?: (progress: WorkProgress) => void;
}

/** What {@link requantizeModel} wrote. */
export interface RequantizeResult {
  /** Types of the weights that were read, and how many were of each. */
  readonly from: Readonly<Record<string, number>>;
  /** Types of the weights that were written. */
  readonly to: Readonly<Record<string, number>>;
  readonly fileBytes: number;
}

/**
 * Writes a GGUF with the same model in weights of another type. Nothing is gained by more bits: what was in 4 bits has the same values in 16.
 * Rows that are no multiple of 256 are in Q5_0 where `Q4_K_M` has Q4_K, and in Q8_0 where it has Q6_K. A file that is there is replaced once
 * the new one is whole.
 *
 * @throws GearError `INVALID_OPTION`, `IO_FAILED`, `CORRUPT_DATA`; the signal's reason.
 */
export async function requantizeModel(
  from: string | URL,
  to: string | URL,
  given: RequantizeOptions,
): Promise<RequantizeResult> {
  const options = checkedOptions<RequantizeOptions>('the options of requantizeModel', given);
  refuseUnknown('requantizeModel', options, ['weights', 'signal', 'onProgress']);
  const { weights } = options;
  if (typeof weights !== 'string') {
    throw new GearError('INVALID_OPTION', `weights is ${describe(weights)}; expected a type such as Q8_0`);
  }
  const signal = checkedSignal(options.signal);
  const listen = checkedListener('onProgress', options.onProgress);
  const [source, target] = [path('from', from), path('to', to)];
  const { requantizeTask } = engine();
  if (requantizeTask === undefined) {
    throw new GearError('BACKEND_UNAVAILABLE', 'this engine has no files; requantizeModel runs in Node and Bun');
  }
  const json = await watched(
    (progress, signal) => awaited((cancel) => requantizeTask(source, target, weights, cancel, progress), signal),
    signal,
    listen,
  );
  return JSON.parse(json) as RequantizeResult;
}

function path(name: string, given: string | URL): string {
  if (given instanceof URL) return fileURLToPath(given);
  if (typeof given === 'string' && given !== '') return given;
  throw new GearError('INVALID_OPTION', `${name} is ${describe(given)}; expected a path or a file URL`);
}
