import { type CacheShape, type CacheSizes, halfJson } from './cache-options.js';
import type { DeviceChoice } from './device.js';
import { describe, GearError } from './errors.js';
import { checkedOptions, type GearOptions, optionsJson, type ResolvedGearOptions, refuseUnknown } from './options.js';

/** How small a cache is frozen. At most one of `bitsPerElement` and `step`. */
export interface FreezeOptions {
  /**
   * The size of the whole, in bits an element, everything counted: 1 to 8, met within a few per cent. Default 3. A cache
   * that is too short for its own means and sinks becomes larger.
   */
  bitsPerElement?: number;
  /**
   * The step of values, in root mean squares of what their means leave: 0.02 to 4. The size follows; a step twice as
   * large saves about a bit an element.
   */
  step?: number;
  /** Tokens at the start in float16. Default 4. */
  sinks?: number;
  /** Threads of the native backend; 0 (default): all. The result does not depend on it. */
  threads?: number;
  /**
   * Mean squares of the queries that were seen, where they are known: one array a layer, `[batch, kvHeads, headDim]`, over all
   * query heads of a KV head. Channels of keys that queries are large in are kept better then.
   */
  queries?: readonly Float32Array[];
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of {@link FrozenCache.thaw}: without any, those of the cache that was frozen. */
export interface ThawOptions extends GearOptions {
  /** Options for keys alone, on top of the others. */
  key?: GearOptions;
  /** Options for values alone, on top of the others. */
  value?: GearOptions;
  /** Where the cache is to be: see {@link GearCacheOptions}. Default `cpu`. */
  device?: DeviceChoice;
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** One layer, in {@link FrozenStats}. */
export interface FrozenLayerStats {
  /** Tokens held. */
  readonly tokens: number;
  /** Bytes of its keys. */
  readonly keyByteLength: number;
  /** Bytes of its values. */
  readonly valueByteLength: number;
}

/** Where a frozen cache's bytes go. */
export interface FrozenStats extends CacheSizes {
  /** Bits kept for one element, everything counted; 0 for an empty cache. */
  readonly bitsPerElement: number;
  /** Bytes of what all layers share. */
  readonly statisticsByteLength: number;
  /** The same, layer by layer. */
  readonly perLayer: readonly FrozenLayerStats[];
  /** The settings of keys that {@link FrozenCache.thaw} takes where none are given. */
  readonly keyOptions: ResolvedGearOptions;
  /** Those of values. */
  readonly valueOptions: ResolvedGearOptions;
}

/** Checks the options of `freeze`, and turns them into what the core takes. */
export function freezeSettings(given: unknown, shape: CacheShape): { json: string; queries: Float32Array } {
  const options = checkedOptions<FreezeOptions>('the options of freeze', given);
  refuseUnknown('freeze', options, ['bitsPerElement', 'step', 'sinks', 'threads', 'queries', 'signal']);
  const { queries, signal: _, ...rest } = options;
  return { json: optionsJson(rest), queries: joined(queries, shape) };
}

/** The layers' arrays as one. */
function joined(queries: unknown, { layers, batch, kvHeads, headDim }: CacheShape): Float32Array {
  if (queries === undefined) return new Float32Array(0);
  const size = batch * kvHeads * headDim;
  const fits =
    Array.isArray(queries) && queries.every((layer) => layer instanceof Float32Array && layer.length === size);
  if (!fits || queries.length !== layers) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `queries is ${describe(queries)}; expected ${layers} Float32Arrays, one a layer, of ${size} elements each`,
    );
  }
  const all = new Float32Array(layers * size);
  for (const [layer, values] of (queries as Float32Array[]).entries()) all.set(values, layer * size);
  return all;
}

/** Checks the options of `thaw`; both empty where the cache is to be what it was. */
export function thawSettings(given: unknown): { keyJson: string; valueJson: string } {
  const { key = {}, value = {}, signal: _, ...both } = checkedOptions<ThawOptions>('the options of thaw', given);
  const options = [both, checkedOptions<GearOptions>('key', key), checkedOptions<GearOptions>('value', value)];
  const asked = options.some((some) => Object.values(some).some((option) => option !== undefined));
  if (!asked) return { keyJson: '', valueJson: '' };
  return { keyJson: halfJson('key', both, key), valueJson: halfJson('value', both, value) };
}
