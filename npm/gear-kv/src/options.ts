import { checkedDevice, type DeviceChoice } from './device.js';
import { describe, GearError } from './errors.js';

/**
 * Names of ready-made settings.
 *
 * - `gear-*`: the best that this package knows at about that size; keys and values differ (see {@link GearOptions.bits}).
 * - `gear-l-*`: the same without outliers, which `gear-*` have none of at present.
 * - `paper-gear-*`, `paper-gear-l-*`: the paper's settings, exactly (KIVI backbone, 2 % outliers, rank 4; GEAR-L has none).
 * - `kivi-*`, `kcvt-*`, `uniform-*`: the backbone alone, for comparison (paper, section 3).
 * - `float16`, `float32`: the same cache, not compressed.
 */
export const presets = [
  'gear-4',
  'gear-3',
  'gear-2',
  'gear-l-4',
  'gear-l-3',
  'gear-l-2',
  'paper-gear-4',
  'paper-gear-2',
  'paper-gear-l-4',
  'paper-gear-l-2',
  'kivi-4',
  'kivi-2',
  'kcvt-4',
  'kcvt-2',
  'uniform-8',
  'uniform-4',
  'uniform-2',
  'float16',
  'float32',
] as const;

/**
 * The name of a preset: one of {@link presets}, or `auto`, which chooses bits, rank and sparsity by the data and needs a goal,
 * {@link GearOptions.maxBitsPerElement} or {@link GearOptions.maxError}.
 */
export type Preset = (typeof presets)[number] | 'auto';

/** Which half of the cache a tensor is: keys are quantized per channel, values per token (paper, section 3). */
export type Role = 'key' | 'value';

/**
 * The quantization scheme underneath (`D̂` in the paper's `X ≈ D̂ + L + S`; section 3).
 *
 * - `uniform`: groups of channels of one token, for keys and values (FlexGen).
 * - `kcvt`: keys one group a channel over the whole segment, values one group a token over all heads.
 * - `kivi`: keys in groups of tokens of one channel, values in groups of channels of one token.
 * - `rotated`: channels' means removed, each token turned by a Hadamard matrix (which spreads what is large over all
 *   channels), groups of channels of one token, the levels of a Lloyd-Max quantizer.
 */
export type Backbone = 'uniform' | 'kcvt' | 'kivi' | 'rotated';

/** How a tensor is compressed: a preset, then any field on top of it. */
export interface GearOptions {
  /** Where the other fields start from. Default `gear-4`. */
  preset?: Preset;
  /**
   * With preset `auto`: the size to keep, 1 to 16 bits an element, everything counted; what makes the error least is chosen. Keys and
   * values of a cache's layer that both have such a goal share what they may take together. It is chosen when the first tokens are
   * compressed, and holds for all that follow; the options of the tensor then say what. A prompt too short for its goal, which
   * sinks in float16 can make any, takes the least it can. Tokens that wait in the buffer take 16 bits until they are compressed, and
   * sinks are left out of the count where the first tokens come one by one.
   */
  maxBitsPerElement?: number;
  /**
   * With preset `auto`: the relative error to keep, `‖x − x̂‖ / ‖x‖`, more than 0 and at most 1; what takes the fewest bytes is chosen. It is
   * kept by the first tokens that are compressed, and chosen for them as `maxBitsPerElement`. With queries at hand, errors are measured
   * as these see them. `OUT_OF_RANGE` where the most bits do not keep it.
   */
  maxError?: number;
  /**
   * Bits of one code of the backbone, for keys and values unless they are configured apart. Given without `meanBits`, they are those
   * of every code, also where the preset spreads them.
   */
  bits?: 2 | 3 | 4 | 8;
  /**
   * Bits of a code on the average, 1 to 8, fractions included, where they are dealt out by need: channels of keys (`kivi`, `kcvt`) or
   * tokens (`rotated`) that matter more to attention get more of them from a stock that the heads of a batch item share. 0: every code has its
   * `bits`. The queries that {@link GearCache.append} may get say what matters; without them it is judged by the numbers alone. Presets
   * `gear-*` spend more on keys: `gear-4` has 4.25 and 4, `gear-3` 3.5 and 3.25, `gear-2` 2.75 and 2.4.
   */
  meanBits?: number;
  /**
   * Only of a cache: how many bits of a code each layer has more on the average than `meanBits`, or, below 0, less; one number for each of its layers.
   * Under preset `auto` it is added to `maxBitsPerElement`, and a bit halves `maxError`. Layers differ in what an error of theirs
   * does to a model's answers; `model.tuneLayers` of `gear-kv/llm` finds numbers that suit a model. What a layer has is kept from 1 to 8 bits.
   */
  layerBits?: readonly number[];
  /** The quantization scheme. */
  backbone?: Backbone;
  /** Elements that share one scale and zero; 64 by default. `kcvt` has its own groups. */
  groupSize?: number;
  /**
   * How a group's scale and zero are found: `minmax` covers its range (paper), `mse` makes the squared error least. Give it sinks,
   * or what attention rests on may be clipped. Without effect on `rotated`, whose scales are always of least squared error.
   */
  range?: 'minmax' | 'mse';
  /** Bits of a scale and of a zero: 16, or 8 under one float16 super-scale a head. */
  scaleBits?: 16 | 8;
  /** Bits of the low-rank factors: 16, 8, or 4 for the factor along tokens and 8 for the one along channels. */
  factorBits?: 16 | 8 | 4;
  /** Rank `r` of the low-rank part of a prompt's segment, per head; 0 turns it off (paper: 4). */
  rank?: number;
  /** Rank of the segments that `append` makes later (paper: 2). */
  decodeRank?: number;
  /**
   * Heads have their ranks by need: as many in all as `rank` (later `decodeRank`) a head and at most three times that in one, each where it
   * takes most of the error away. Same bytes, but for one a head.
   */
  rankByNeed?: boolean;
  /** Passes of the power iteration that finds the low-rank part. */
  powerIterations?: number;
  /** Fraction of the elements kept exactly as outliers: 0.02 is 2 % (paper); 0 turns them off. */
  sparsity?: number;
  /** Tokens at the start that are kept in full precision. */
  sinks?: number;
  /** Tokens that wait in full precision until they become a segment (paper: `n_b`). */
  bufferTokens?: number;
  /** Seed of the power iteration: the same input, options and seed give the same bytes on every backend. */
  seed?: number;
  /** Threads of the native backend: 0 for one for each physical core, 1 for the calling thread alone. The bytes do not depend on it. */
  threads?: number;
  /** NaN and infinity in the input: `reject` (default) throws `NOT_FINITE`; `replace` stores 0 for NaN and ±65504 for infinity. */
  nonFinite?: 'reject' | 'replace';
  /**
   * Where to compute. A {@link GearCache} can be on a GPU: see {@link GearCacheOptions}. A tensor of its own, and keys or values apart, are on the
   * CPU, and refuse `cuda` with `BACKEND_UNAVAILABLE`.
   */
  device?: DeviceChoice;
}

/** The settings in force, after the preset and every default. See {@link GearOptions} for the fields. */
export interface ResolvedGearOptions {
  /** The preset that it started from. */
  readonly preset: Preset;
  /** Of preset `auto`: the size that was asked for. The other fields are what was chosen for it. */
  readonly maxBitsPerElement?: number;
  /** Of preset `auto`: the error that was asked for. The other fields are what was chosen for it. */
  readonly maxError?: number;
  /** How values are held: compressed, or as plain float16 or float32. */
  readonly storage: 'gear' | 'float16' | 'float32';
  /** Bits of one code. */
  readonly bits: number;
  /** Bits of one code on the average, where they are dealt out by need; 0: every code has its `bits`. */
  readonly meanBits: number;
  /** The quantization scheme. */
  readonly backbone: Backbone;
  /** Elements that share one scale. */
  readonly groupSize: number;
  /** How scales and zeros are found. */
  readonly range: 'minmax' | 'mse';
  /** Bits of a scale and of a zero. */
  readonly scaleBits: number;
  /** Bits of the low-rank factors. */
  readonly factorBits: number;
  /** Rank of a prompt's segment. */
  readonly rank: number;
  /** Rank of later segments. */
  readonly decodeRank: number;
  /** Whether heads have their ranks by need. */
  readonly rankByNeed: boolean;
  /** Passes of the power iteration. */
  readonly powerIterations: number;
  /** Fraction of outliers. */
  readonly sparsity: number;
  /** Tokens at the start in full precision. */
  readonly sinks: number;
  /** Tokens that wait in the buffer. */
  readonly bufferTokens: number;
  /** Seed of the power iteration. */
  readonly seed: number;
  /** Threads of the native backend; 0: all. */
  readonly threads: number;
  /** What is done with NaN and infinity. */
  readonly nonFinite: 'reject' | 'replace';
}

/** Turns options into the JSON that the core takes; names and ranges are checked by the core. */
export function optionsJson(options: object): string {
  const given: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (name === 'device') {
      checkDevice(value);
      continue;
    }
    // JSON would turn NaN into null and drop functions, which the core would take for "not given".
    if (Array.isArray(value) || ArrayBuffer.isView(value)) {
      given[name] = finiteNumbers(name, value as unknown as ArrayLike<unknown>);
      continue;
    }
    if (typeof value !== 'string' && typeof value !== 'boolean' && !isFiniteNumber(value)) {
      throw new GearError(
        'INVALID_OPTION',
        `${name} is ${describe(value)}; expected a name, a finite number, true or false, or an array of finite numbers`,
      );
    }
    given[name] = value;
  }
  return JSON.stringify(given);
}

const isFiniteNumber = (value: unknown): boolean => typeof value === 'number' && Number.isFinite(value);

function finiteNumbers(name: string, values: ArrayLike<unknown>): unknown[] {
  const numbers = Array.from(values);
  const at = numbers.findIndex((value) => !isFiniteNumber(value));
  if (at < 0) return numbers;
  throw new GearError('INVALID_OPTION', `${name}[${at}] is ${describe(numbers[at])}; expected a finite number`);
}

/** Of what is on the CPU whatever it is asked. */
function checkDevice(device: unknown): void {
  if (checkedDevice(device) !== 'cuda') return;
  throw new GearError(
    'BACKEND_UNAVAILABLE',
    "device 'cuda' is for a GearCache as a whole; tensors of their own, keys or values apart, and models' caches are on the CPU: use 'auto' or 'cpu'",
  );
}

/** Checks the argument that holds options. */
export function checkedOptions<Options extends object>(what: string, options: unknown): Options {
  if (typeof options !== 'object' || options === null) {
    throw new GearError('INVALID_OPTION', `${what} is ${describe(options)}; expected an object`);
  }
  return options as Options;
}

/** Refuses what a call does not know: a misspelt option must not be silently ignored. */
export function refuseUnknown(what: string, options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) {
      throw new GearError(
        'INVALID_OPTION',
        `${what} has no option '${name}'; expected ${known.length > 0 ? known.join(', ') : 'none'}`,
      );
    }
  }
}

/** Checks a number of things of which there must be one. */
export function checkedPositive(name: string, value: unknown): number {
  if (Number.isSafeInteger(value) && (value as number) > 0) return value as number;
  throw new GearError('INVALID_OPTION', `${name} is ${describe(value)}; expected a whole number above 0`);
}

/** Checks the role of a tensor. */
export function checkedRole(role: unknown): Role {
  if (role === 'key' || role === 'value') return role;
  throw new GearError('INVALID_OPTION', `role is ${describe(role)}; expected 'key' or 'value'`);
}
