import type { BackendChoice } from './backend/selection.js';
import { checkedDevice, type DeviceChoice } from './device.js';
import { describe, GearError } from './errors.js';
import type { KvData } from './kv-array.js';
import { checkedOptions, type GearOptions, optionsJson, type ResolvedGearOptions, refuseUnknown } from './options.js';
import { checkedCount } from './shape.js';
import type { Parts } from './tensor.js';

/** What a cache is for, and how it compresses: options for both halves, then `key` and `value` on top. */
export interface GearCacheOptions extends GearOptions {
  /** Layers of the model. */
  layers: number;
  /** Heads of K and V (not of the queries). */
  kvHeads: number;
  /** Channels of one head. */
  headDim: number;
  /** Sequences computed side by side. Default 1. */
  batch?: number;
  /** Options for keys alone, on top of the others. */
  key?: GearOptions;
  /** Options for values alone, on top of the others. */
  value?: GearOptions;
  /** Which backend computes. Default: this entry point's. */
  backend?: BackendChoice;
  /**
   * `cuda`: an NVIDIA GPU attends, the first that its driver shows, with no more than that driver; `BACKEND_UNAVAILABLE` where there is none. `auto`: a GPU
   * where there is one, and `cache.device` says why not. `cpu` (default): no GPU is looked for. The cache is in main memory in any case, and all
   * but {@link GearCache.attend} is done there, so that it can be saved, and holds the same, wherever it is.
   */
  device?: DeviceChoice;
}

/** Options of {@link GearCache.attend}. */
export interface AttendOptions {
  /** Query heads, a multiple of the KV heads; query head `h` attends to KV head `⌊h · kvHeads / queryHeads⌋`. */
  queryHeads: number;
  /** What the scores are multiplied with. Default `1 / √headDim`. */
  scale?: number;
  /**
   * True (default): the queries belong to the newest tokens, and each sees the tokens up to its own. False: every query
   * sees every token.
   */
  causal?: boolean;
  /** Sliding window: a query sees only this many tokens back, its own included. */
  window?: number;
  /** Scores become `softcap · tanh(score / softcap)`. */
  softcap?: number;
  /** Where to write the result; as long as `query`. Default: a new array. */
  out?: Float32Array;
}

/** Options of {@link GearCache.append}: the queries of the new tokens, and how they attend. */
export interface CacheAppendOptions {
  /**
   * `[batch, queryHeads, new tokens, headDim]`, after RoPE. What is compressed is compressed with an eye to what they look for, so that
   * later queries like them read it more exactly at the same size. It takes effect where `meanBits` deals out bits, as in presets
   * `gear-*`; other caches check them and are the same with and without. Queries of tokens that still wait in the buffer, of the 64
   * newest, are kept in float32 until those are compressed, and count in `byteLength`; files do not hold them.
   */
  queries?: KvData;
  /** Query heads, a multiple of the KV heads. Needed with `queries`. */
  queryHeads?: number;
  /** What the scores are multiplied with. Default `1 / √headDim`. */
  scale?: number;
  /** Sliding window: a query sees only this many tokens back, its own included. */
  window?: number;
  /** Scores become `softcap · tanh(score / softcap)`. */
  softcap?: number;
}

/** Options of {@link GearCache.shift}. */
export interface ShiftOptions {
  /** How many tokens to drop. */
  drop: number;
  /** How many of the first tokens stay: no fewer than the cache's sinks. Default: these. */
  keep?: number;
}

/** What preset `auto` chose. See {@link GearOptions} for the fields. */
export interface Chosen {
  /** Bits of a code on the average. */
  readonly meanBits: number;
  /** Rank of a prompt's segment. */
  readonly rank: number;
  /** Rank of later segments. */
  readonly decodeRank: number;
  /** Fraction of outliers. */
  readonly sparsity: number;
}

/** One half of one layer, in {@link CacheStats}. */
export interface HalfStats {
  /** Bytes of everything that is kept. */
  readonly byteLength: number;
  /** Where they go. */
  readonly parts: Parts;
  /** What preset `auto` chose for this layer, once something is compressed; not there with other presets. */
  readonly chosen?: Chosen;
}

/** One layer, in {@link CacheStats}. */
export interface LayerStats {
  /** Tokens held. */
  readonly tokens: number;
  /** Its keys. */
  readonly key: HalfStats;
  /** Its values. */
  readonly value: HalfStats;
}

/** What a cache and a frozen one say of their sizes. */
export interface CacheSizes {
  /** Layers of the model. */
  readonly layers: number;
  /** Sequences computed side by side. */
  readonly batch: number;
  /** Heads of K and V. */
  readonly kvHeads: number;
  /** Channels of one head. */
  readonly headDim: number;
  /** Tokens that every layer holds. */
  readonly tokens: number;
  /** Bytes of everything that is kept. */
  readonly byteLength: number;
  /** Bytes that the same tokens take as float16. */
  readonly float16ByteLength: number;
  /** How many times smaller than float16; 0 for an empty cache. */
  readonly ratio: number;
}

/** Where a cache's bytes go. */
export interface CacheStats extends CacheSizes {
  /** The same, layer by layer. */
  readonly perLayer: readonly LayerStats[];
  /** The settings of keys, complete. */
  readonly keyOptions: ResolvedGearOptions;
  /** The settings of values, complete. */
  readonly valueOptions: ResolvedGearOptions;
}

/** The sizes of a cache. */
export interface CacheShape {
  readonly layers: number;
  readonly batch: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Checks the options of a cache. */
export function cacheSettings(given: unknown): {
  shape: CacheShape;
  keyJson: string;
  valueJson: string;
  backend: BackendChoice | undefined;
  device: DeviceChoice;
} {
  const options = checkedOptions<GearCacheOptions>('the argument of GearCache', given);
  const { layers, kvHeads, headDim, batch = 1, key = {}, value = {}, backend, device, ...both } = options;
  return {
    shape: {
      layers: checkedCount('layers', layers, 1),
      batch: checkedCount('batch', batch, 1),
      kvHeads: checkedCount('kvHeads', kvHeads, 1),
      headDim: checkedCount('headDim', headDim, 1),
    },
    keyJson: halfJson('key', both, key),
    valueJson: halfJson('value', both, value),
    backend,
    device: checkedDevice(device),
  };
}

/** The options of one half. Its own preset is a new start: the other half's `bits` or `rank` must not leak into it. */
export function halfJson(name: string, both: GearOptions, half: GearOptions): string {
  const own = checkedOptions<GearOptions>(name, half);
  return optionsJson(own.preset === undefined ? { ...both, ...given(own) } : own);
}

/** Without the fields that are present but undefined, which would hide the ones underneath. */
function given(options: GearOptions): GearOptions {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Checks the options of `attend` and turns them into the JSON that the core takes. */
export function attendJson(options: AttendOptions): string {
  refuseUnknown('attend', options, ['queryHeads', 'scale', 'causal', 'window', 'softcap', 'out']);
  return attentionJson(options);
}

/** Checks how queries attend and turns it into the JSON that the core takes; `queryHeads` is checked already. */
export function attentionJson(options: Omit<AttendOptions, 'out'>): string {
  const { queryHeads, scale, causal = true, window, softcap } = options;
  if (typeof causal !== 'boolean') {
    throw new GearError('INVALID_OPTION', `causal is ${describe(causal)}; expected true or false`);
  }
  checkFinite('scale', scale);
  checkPositive('softcap', softcap);
  if (window !== undefined && !(Number.isInteger(window) && window > 0 && window <= 0xffff_ffff)) {
    throw new GearError('INVALID_OPTION', `window is ${describe(window)}; expected a whole number of at least 1`);
  }
  return JSON.stringify({ queryHeads, scale, causal, window, softcap });
}

function checkFinite(name: string, value: unknown): void {
  if (value !== undefined && !(typeof value === 'number' && Number.isFinite(value))) {
    throw new GearError('INVALID_OPTION', `${name} is ${describe(value)}; expected a finite number`);
  }
}

function checkPositive(name: string, value: unknown): void {
  checkFinite(name, value);
  if (value !== undefined && !((value as number) > 0)) {
    throw new GearError('INVALID_OPTION', `${name} is ${describe(value)}; expected a number above 0`);
  }
}
