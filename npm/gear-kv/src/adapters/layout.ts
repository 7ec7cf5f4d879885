import { GearError } from '../errors.js';
import { checkedTensor, type Entries, type TensorLike } from './tensor.js';

/** What the entries of a model's cache are: which of them are keys and values that a {@link GearCache} holds, and which travel along. */
export interface Layout {
  /** What stands before `.key` and `.value`, layer by layer. */
  readonly layers: readonly string[];
  /** Names of the others. */
  readonly others: readonly string[];
  readonly type: 'float32' | 'float16';
  readonly batch: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** What an entry that travels along is to the tokens: one row a token, or the same for all, or what all of them together led to. */
export type Bearing = 'rows' | 'constant' | 'state';

/** The names of a layer's two halves. */
export const HALVES = ['key', 'value'] as const;

/** Names of a session's outputs become those of its inputs, by the rule of transformers.js. */
export function inputName(name: string): string {
  return name.replace(/^present_(?!key_values)/, 'past_').replace(/^present(?=\.)/, 'past_key_values');
}

/** Of what a session returned, or of a cache: the entries of a cache, by the names of inputs. */
export function cacheEntries(source: object): Entries {
  const entries: Entries = {};
  for (const [name, value] of Object.entries(source)) {
    const renamed = inputName(name);
    if (renamed.startsWith('past_') && value !== undefined) entries[renamed] = checkedTensor(name, value);
  }
  return entries;
}

/**
 * Finds out what the entries are. Compressed are pairs `….key` and `….value` of one shape, as most layers have it, and of the tokens that the
 * cache has; the rest travels along: convolutions and states of hybrid models, what an encoder made, layers of another shape.
 *
 * @throws GearError `SHAPE_MISMATCH` if there is nothing to compress.
 */
export function layoutOf(entries: Entries): Layout {
  const groups = new Map<string, string[]>();
  for (const name of Object.keys(entries)) {
    const layer = /^(past_key_values\..*)\.key$/.exec(name)?.[1];
    if (layer === undefined || isConstant(name)) continue;
    const shape = shapeOf(entries[name], entries[`${layer}.value`]);
    if (shape !== undefined) groups.set(shape, [...(groups.get(shape) ?? []), layer]);
  }
  const [largest] = [...groups.values()].sort((a, b) => b.length - a.length);
  const first = entries[`${largest?.[0]}.key`];
  if (largest === undefined || first === undefined) {
    const names = Object.keys(entries);
    throw new GearError(
      'SHAPE_MISMATCH',
      `there are no keys and values among ${names.length === 0 ? 'no entries' : names.slice(0, 4).join(', ')}; ` +
        'expected past_key_values.0.key and so on, [batch, heads, tokens, headDim], in float32 or float16',
    );
  }
  const held = new Set(largest.flatMap((layer) => HALVES.map((half) => `${layer}.${half}`)));
  const [batch = 0, kvHeads = 0, , headDim = 0] = first.dims;
  const type = first.type as Layout['type'];
  return {
    layers: largest,
    others: Object.keys(entries).filter((name) => !held.has(name)),
    type,
    batch,
    kvHeads,
    headDim,
  };
}

/** Layers with the same text can be held by one cache. */
function shapeOf(key: TensorLike | undefined, value: TensorLike | undefined): string | undefined {
  if (key?.dims.length !== 4 || value === undefined) return undefined;
  if (key.type !== 'float32' && key.type !== 'float16') return undefined;
  const text = `${key.type} ${key.dims.join(' ')}`;
  return text === `${value.type} ${value.dims.join(' ')}` ? text : undefined;
}

/** Tokens of a cache's entries. */
export function tokensIn(entries: Entries, layout: Layout): number {
  return entries[`${layout.layers[0]}.key`]?.dims[2] ?? 0;
}

/** Refuses entries that are not those of the model whose cache this is. */
export function refuseOtherLayout(expected: Layout, given: Layout): void {
  const text = ({ layers, type, batch, kvHeads, headDim }: Layout): string =>
    `${layers.length} layers (${layers[0]} …) of ${type} [${batch}, ${kvHeads}, tokens, ${headDim}]`;
  const same = text(expected) === text(given) && expected.layers.every((name, index) => name === given.layers[index]);
  if (!same) {
    throw new GearError('MODEL_MISMATCH', `the entries are ${text(given)}; this cache has ${text(expected)}`);
  }
}

/** What an entry that travels along is to the tokens. */
export function bearing(name: string, dims: readonly number[], tokens: number): Bearing {
  if (isConstant(name)) return 'constant';
  return name.startsWith('past_key_values.') && dims.length === 4 && dims[2] === tokens ? 'rows' : 'state';
}

function isConstant(name: string): boolean {
  return name.includes('.encoder.');
}
