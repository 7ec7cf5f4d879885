import { checkedSignal, turn } from '../abort.js';
import type { About } from '../about.js';
import type { GearCacheOptions } from '../cache-options.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions } from '../options.js';
import { GearCache } from '../public.js';
import { type Layout, layoutOf, refuseOtherLayout, tokensIn } from './layout.js';
import { FrozenPrefix } from './prefix.js';
import { withRawArrays } from './raw-array.js';
import { kvRows } from './rows.js';
import { downloaded, type Entries, kvData, type TensorLike } from './tensor.js';
import { checkedTokenIds, commonPrefix, type TokenIds } from './token-ids.js';
import { withTravelNote } from './travel-note.js';

/** How a cache compresses: a preset, and any option on top of it. */
export type Compression = Omit<GearCacheOptions, 'layers' | 'kvHeads' | 'headDim' | 'batch'>;

/** What belongs to a cache beside its keys and values. */
export interface Belonging {
  /**
   * Ids of the tokens that the cache holds, from the first. More may be given than the cache holds: `generate` returns one more than the model
   * has seen. Without them, a prompt cannot be compared with the cache.
   */
  tokenIds?: TokenIds | undefined;
  /** Which model made it: any name, compared when it is used again. */
  model?: string | undefined;
  /** Anything of the application's that is to be saved with it. */
  metadata?: About['metadata'] | undefined;
}

/** Options of `freezeCache` and `freezeTensors`. */
export interface FreezeCacheOptions extends Compression, Belonging {
  /**
   * What was frozen before, of the same conversation: tokens that both begin with are taken from there as they are, and only what is new is
   * compressed. It stays as it is. The options of its compression count.
   */
  extend?: FrozenPrefix;
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Compresses entries of a cache, layer by layer, with a turn of the event loop between two of them. */
export async function freezeEntries(entries: Entries, given: FreezeCacheOptions): Promise<FrozenPrefix> {
  const options = checkedOptions<FreezeCacheOptions>('the options of freezing', given);
  const { tokenIds, model, metadata, extend, signal: _, ...compression } = options;
  const signal = checkedSignal(options.signal);
  signal?.throwIfAborted();
  const layout = layoutOf(entries);
  const tokens = tokensIn(entries, layout);
  const about: About = belonging({ tokenIds, model, metadata }, layout, tokens);
  const cache = extend === undefined ? emptyCache(layout, compression) : continued(extend, layout, about, compression);
  try {
    for (const layer of layout.layers.keys()) {
      await turn(signal);
      const { key, value } = layerTensors(entries, layout, layer);
      const data = [await downloaded('key', key, true), await downloaded('value', value, true)] as const;
      appendRows(cache, layout, layer, tokens, data);
    }
    const others = layout.others.map((name) => [name, entries[name] as TensorLike] as const);
    return new FrozenPrefix(cache, await withRawArrays(about, others));
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** A cache for entries of this layout. */
export function emptyCache(layout: Layout, compression: Compression): GearCache {
  const { batch, kvHeads, headDim } = layout;
  return new GearCache({ ...compression, layers: layout.layers.length, batch, kvHeads, headDim });
}

/** The keys and values of one layer. */
export function layerTensors(entries: Entries, layout: Layout, layer: number): { key: TensorLike; value: TensorLike } {
  const name = layout.layers[layer];
  return { key: entries[`${name}.key`] as TensorLike, value: entries[`${name}.value`] as TensorLike };
}

/** Appends what a layer does not hold yet. `tokens` are those of the arrays. */
export function appendRows(
  cache: GearCache,
  { layers, type, headDim }: Layout,
  layer: number,
  tokens: number,
  [key, value]: readonly [ArrayBufferView, ArrayBufferView],
): void {
  const from = cache.layerTokens(layer);
  if (from >= tokens) return;
  const rows = (half: string, data: ArrayBufferView) =>
    kvRows(kvData(`${layers[layer]}.${half}`, type, data), tokens, headDim, from);
  cache.append(layer, rows('key', key), rows('value', value));
}

/** What is saved beside keys and values, without the entries that travel along. */
export function belonging({ tokenIds, model, metadata }: Belonging, layout: Layout, tokens: number): About {
  if (model !== undefined && typeof model !== 'string') {
    throw new GearError('INVALID_OPTION', `model is ${describe(model)}; expected a string`);
  }
  const note = { metadata: withTravelNote(metadata, layout), ...(model !== undefined && { model }) };
  if (tokenIds === undefined) return note;
  if (layout.batch !== 1) {
    const count = layout.batch;
    throw new GearError(
      'INVALID_OPTION',
      `tokenIds are given for a batch of ${count}; leave them out, or freeze one sequence`,
    );
  }
  const ids = checkedTokenIds('tokenIds', tokenIds);
  if (ids.length < tokens) {
    throw new GearError('SHAPE_MISMATCH', `tokenIds has ${ids.length} ids; the cache holds ${tokens} tokens`);
  }
  return { ...note, tokenIds: ids.slice(0, tokens) };
}

/** Options of compression mean nothing where something is compressed already. */
export function refuseCompression(compression: object, beside: string): void {
  const [idle] = Object.entries(compression).find(([, value]) => value !== undefined) ?? [];
  if (idle === undefined) return;
  throw new GearError(
    'INVALID_OPTION',
    `${idle} is given with ${beside}, which is compressed already in its own way; leave out one of them`,
  );
}

/** What was frozen before, as far as both begin with the same tokens of the same model. */
function continued(
  extend: FrozenPrefix,
  layout: Layout,
  { tokenIds, model }: About,
  compression: Compression,
): GearCache {
  refuseCompression(compression, 'extend');
  const before = extend.live('extend');
  refuseOtherLayout(extend.layout, layout);
  if (model !== extend.model) {
    throw new GearError(
      'MODEL_MISMATCH',
      `model is ${describe(model)}; what is extended was made by ${describe(extend.model)}`,
    );
  }
  if (tokenIds === undefined || extend.tokenIds === undefined) {
    throw new GearError(
      'MODEL_MISMATCH',
      'extend needs token ids on both sides; without them nobody knows what is new',
    );
  }
  const shared = commonPrefix(extend.tokenIds, tokenIds);
  const cache = before.fork();
  if (shared < cache.tokens) cache.truncate(shared);
  return cache;
}
