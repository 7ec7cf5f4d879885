import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, type Preset, refuseUnknown } from '../options.js';
import type { ModelHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import { type WorkProgress, watched } from './progress.js';
import { type CacheChoice, cacheJson, checkedListener } from './settings.js';

/** Texts as tokens, each a prompt followed by its continuation. */
export interface EvalWindows {
  readonly promptTokens: number;
  readonly continuationTokens: number;
  readonly tokenIds: readonly (readonly number[])[];
}

/**
 * What an evaluation compares: presets, and caches at rest in so many bits an element (`frozen-3.1`), with steps that follow
 * the prompt's queries (`frozen-3.1-queries`) or not.
 */
export type EvalPreset = Preset | `frozen-${number}` | `frozen-${number}-queries`;

/** A cache of other options than a preset's, and what its row is called. */
export interface EvalCache {
  readonly name: string;
  readonly cache: CacheChoice;
}

/** A preset beside a float16 cache, over all windows. */
export interface EvalRow {
  /** The preset, or the name of another cache. */
  readonly preset: string;
  /** Of a prompt's segment, everything counted. */
  readonly bitsPerElement: number;
  /** Of what was compressed afterwards, while decoding; null where nothing was. */
  readonly decodeBitsPerElement: number | null;
  /** Mean Kullback-Leibler divergence of the next token's distribution from that of float16, in nats. */
  readonly kl: number;
  /** Share of the continuation's tokens at which both find the same next token likeliest. */
  readonly top1: number;
  readonly perplexity: number;
}

/** What an evaluation found. */
export interface Evaluation {
  /** Perplexity on a float16 cache. */
  readonly float16Perplexity: number;
  /** One row a preset, in their order. */
  readonly rows: readonly EvalRow[];
}

/** How far an evaluation has come: windows that were computed, each once with a float16 cache and once a preset. */
export interface EvalProgress extends WorkProgress {}

/** Options of `evaluate`. */
export interface EvaluateOptions {
  readonly presets: readonly (EvalPreset | EvalCache)[];
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: EvalProgress) => void;
}

/** Checks windows that may come from a file. */
export function checkedWindows(given: unknown): EvalWindows {
  const { promptTokens, continuationTokens, tokenIds } = (given ?? {}) as Partial<EvalWindows>;
  const counts = [promptTokens, continuationTokens];
  if (!counts.every((count) => Number.isSafeInteger(count) && (count as number) > 0) || !Array.isArray(tokenIds)) {
    throw new GearError(
      'INVALID_OPTION',
      'windows has no { promptTokens, continuationTokens, tokenIds }, which it needs',
    );
  }
  // The last token of the continuation is followed by one that it has to predict.
  const length = (promptTokens as number) + (continuationTokens as number) + 1;
  if (tokenIds.length === 0)
    throw new GearError('INVALID_OPTION', 'windows has no token ids; expected at least one list');
  for (const [index, ids] of tokenIds.entries()) {
    const fits =
      Array.isArray(ids) &&
      ids.length >= length &&
      ids.every((id) => Number.isInteger(id) && id >= 0 && id <= 0xffff_ffff);
    if (fits) continue;
    throw new GearError(
      'INVALID_OPTION',
      `windows.tokenIds[${index}] is ${describe(ids)}; expected at least ${length} token ids (promptTokens + continuationTokens + 1)`,
    );
  }
  return { promptTokens, continuationTokens, tokenIds } as EvalWindows;
}

/** A row to be as the engine takes it. */
function candidate(given: EvalPreset | EvalCache): unknown {
  if (typeof given !== 'object' || given === null) return given;
  refuseUnknown('a cache to evaluate', given, ['name', 'cache']);
  const { key, value } = cacheJson(given.cache);
  return { name: given.name, key: JSON.parse(key), value: JSON.parse(value) };
}

/** Has the engine compare presets on windows. */
export async function evaluated(model: ModelHandle, windows: EvalWindows, given: EvaluateOptions): Promise<Evaluation> {
  const checked = checkedWindows(windows);
  const options = checkedOptions<EvaluateOptions>('the options of evaluate', given);
  refuseUnknown('evaluate', options, ['presets', 'signal', 'onProgress']);
  const { presets } = options;
  if (!Array.isArray(presets) || presets.length === 0) {
    throw new GearError(
      'INVALID_OPTION',
      `presets is ${describe(presets)}; expected names of presets, or caches as { name, cache }`,
    );
  }
  const signal = checkedSignal(options.signal);
  const listen = checkedListener('onProgress', options.onProgress);
  const [windowsJson, presetsJson] = [JSON.stringify(checked), JSON.stringify(presets.map(candidate))];
  const json = await watched(
    (progress, signal) =>
      awaited((cancel) => engine().evalTask(model, windowsJson, presetsJson, cancel, progress), signal),
    signal,
    listen,
  );
  return JSON.parse(json) as Evaluation;
}
