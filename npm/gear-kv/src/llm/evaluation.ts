import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, type Preset, refuseUnknown } from '../options.js';
import type { ModelHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import { type WorkProgress, watched } from './progress.js';
import { type CacheChoice, cacheJson, checkedListener } from './settings.js';

/** Texts as tokens, each a prompt followed by its continuation, all of the same lengths. */
export interface EvalWindows {
  readonly promptTokens: number;
  readonly continuationTokens: number;
  readonly tokenIds: readonly (readonly number[])[];
}

/** A text as tokens: a prompt, and what comes behind it, of which the first token is given and all others are predicted. */
export interface EvalText {
  readonly promptTokens: number;
  /** At least two more than the prompt has. */
  readonly tokenIds: readonly number[];
}

/** Texts whose lengths may differ, such as questions with their answers. */
export interface EvalTexts {
  readonly items: readonly EvalText[];
}

/**
 * What an evaluation compares: presets, and caches at rest in so many bits an element (`frozen-3.1`), with steps that follow
 * the prompt's queries (`frozen-3.1-queries`) or not; and H2O, which keeps a share of the tokens (`h2o-0.5`), half of them those that got most
 * attention so far and half the newest, and drops the others.
 */
export type EvalPreset = Preset | `frozen-${number}` | `frozen-${number}-queries` | `h2o-${number}`;

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
  /** Of each layer, where `layerErrors` was asked for. */
  readonly layers?: readonly EvalLayerError[];
}

/** How far a layer is from the same on a float16 cache: norm of the difference by norm of what it differs from, over all prompts. */
export interface EvalLayerError {
  /** Of the prompt's keys; null where tokens were dropped, which leaves nothing to be compared. */
  readonly key: number | null;
  /** Of its values. */
  readonly value: number | null;
  /** Of what attention gives to its last queries: a sixteenth of them, up to 16. */
  readonly attention: number;
}

/** A preset beside a float16 cache, in one window. */
export interface EvalWindowRow extends EvalRow {
  /** Divergence at each position of the continuation, in nats. */
  readonly positionKl: readonly number[];
  /** Whether both find the same next token likeliest there. */
  readonly positionSame: readonly boolean[];
}

/** What an evaluation found in one window. */
export interface EvalWindowFound {
  readonly promptTokens: number;
  /** Tokens that were predicted. What all windows together found is the mean of theirs, weighted by it. */
  readonly continuationTokens: number;
  readonly float16Perplexity: number;
  /** One row a preset, in their order. */
  readonly rows: readonly EvalWindowRow[];
}

/** What an evaluation found. */
export interface Evaluation {
  /** Perplexity on a float16 cache. */
  readonly float16Perplexity: number;
  /** One row a preset, in their order. */
  readonly rows: readonly EvalRow[];
  /** Each window, in their order, where `perWindow` was asked for. */
  readonly windows?: readonly EvalWindowFound[];
}

/** How far an evaluation has come: windows that were computed, each once with a float16 cache and once a preset. */
export interface EvalProgress extends WorkProgress {}

/** Options of `evaluate`. */
export interface EvaluateOptions {
  readonly presets: readonly (EvalPreset | EvalCache)[];
  /** Tells each window's rows, too, and each position's divergence. Default `false`. */
  readonly perWindow?: boolean;
  /** Tells the errors of each layer's keys, values and attention. Default `false`. */
  readonly layerErrors?: boolean;
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
    const fits = Array.isArray(ids) && ids.length >= length && ids.every(isTokenId);
    if (fits) continue;
    throw new GearError(
      'INVALID_OPTION',
      `windows.tokenIds[${index}] is ${describe(ids)}; expected at least ${length} token ids (promptTokens + continuationTokens + 1)`,
    );
  }
  return { promptTokens, continuationTokens, tokenIds } as EvalWindows;
}

/** Checks windows or texts that may come from a file. */
export function checkedTexts(given: unknown): EvalWindows | EvalTexts {
  if (typeof given !== 'object' || given === null || !('items' in given)) return checkedWindows(given);
  const { items } = given as { items: unknown };
  if (!Array.isArray(items) || items.length === 0) {
    throw new GearError(
      'INVALID_OPTION',
      `windows.items is ${describe(items)}; expected at least one { promptTokens, tokenIds }`,
    );
  }
  return {
    items: items.map((item: Partial<EvalText> | null | undefined, index) => {
      const { promptTokens, tokenIds } = item ?? {};
      if (!Number.isSafeInteger(promptTokens) || (promptTokens as number) < 1) {
        throw new GearError(
          'INVALID_OPTION',
          `windows.items[${index}].promptTokens is ${describe(promptTokens)}; expected 1 or more`,
        );
      }
      const least = (promptTokens as number) + 2;
      if (Array.isArray(tokenIds) && tokenIds.length >= least && tokenIds.every(isTokenId)) {
        return { promptTokens, tokenIds } as EvalText;
      }
      throw new GearError(
        'INVALID_OPTION',
        `windows.items[${index}].tokenIds is ${describe(tokenIds)}; expected at least ${least} token ids (promptTokens + 2)`,
      );
    }),
  };
}

function isTokenId(id: unknown): boolean {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) <= 0xffff_ffff;
}

/** A row to be as the engine takes it. */
function candidate(given: EvalPreset | EvalCache): unknown {
  if (typeof given !== 'object' || given === null) return given;
  refuseUnknown('a cache to evaluate', given, ['name', 'cache']);
  const { key, value } = cacheJson(given.cache);
  return { name: given.name, key: JSON.parse(key), value: JSON.parse(value) };
}

function flag(name: 'perWindow' | 'layerErrors', options: EvaluateOptions): boolean {
  const { [name]: given = false } = options;
  if (typeof given === 'boolean') return given;
  throw new GearError('INVALID_OPTION', `${name} is ${describe(given)}; expected true or false`);
}

/** Has the engine compare presets on windows. */
export async function evaluated(
  model: ModelHandle,
  windows: EvalWindows | EvalTexts,
  given: EvaluateOptions,
): Promise<Evaluation> {
  const checked = checkedTexts(windows);
  const options = checkedOptions<EvaluateOptions>('the options of evaluate', given);
  refuseUnknown('evaluate', options, ['presets', 'perWindow', 'layerErrors', 'signal', 'onProgress']);
  const { presets } = options;
  const details = { perWindow: flag('perWindow', options), layerErrors: flag('layerErrors', options) };
  if (!Array.isArray(presets) || presets.length === 0) {
    throw new GearError(
      'INVALID_OPTION',
      `presets is ${describe(presets)}; expected names of presets, or caches as { name, cache }`,
    );
  }
  const signal = checkedSignal(options.signal);
  const listen = checkedListener('onProgress', options.onProgress);
  const [windowsJson, presetsJson] = [
    JSON.stringify({ ...checked, ...details }),
    JSON.stringify(presets.map(candidate)),
  ];
  const json = await watched(
    (progress, signal) =>
      awaited((cancel) => engine().evalTask(model, windowsJson, presetsJson, cancel, progress), signal),
    signal,
    listen,
  );
  return JSON.parse(json) as Evaluation;
}
