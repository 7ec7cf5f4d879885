import { attentionJson, type CacheAppendOptions, type CacheShape } from './cache-options.js';
import { GearError } from './errors.js';
import { type KvArray, type KvData, kvArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';
import { checkedCount, tokensOf } from './shape.js';

/** What {@link GearCache.append} was given, checked, as the bindings take it. */
export interface AppendInput {
  readonly kv: KeysAndValues;
  readonly tokens: number;
  /** The queries of the same tokens, where there are any, and how they attend. */
  readonly looking: { readonly queries: Float32Array; readonly json: string } | undefined;
}

type KeysAndValues =
  | { readonly kind: 'f32'; readonly key: Float32Array; readonly value: Float32Array }
  | { readonly kind: 'f16'; readonly key: Uint16Array; readonly value: Uint16Array };

type Widen = (bits: Uint16Array) => Float32Array;

/** Checks keys, values and queries of new tokens, whose number follows from the keys. */
export function appendInput(
  shape: CacheShape,
  key: KvData,
  value: KvData,
  options: CacheAppendOptions,
  widen: Widen,
): AppendInput {
  const { batch, kvHeads, headDim } = shape;
  const k = kvArray('key', key);
  const v = kvArray('value', value);
  const layout = `[${batch}, ${kvHeads}, new tokens, ${headDim}]`;
  const tokens = tokensOf('key', k.data.length, batch * kvHeads * headDim, layout);
  if (v.data.length !== k.data.length) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `value has ${v.data.length} elements and key ${k.data.length}; expected the same number, ${layout}`,
    );
  }
  const looking = queriesOf(shape, tokens, options, widen);
  return { kv: ofOneKind(k, v, widen), tokens, looking };
}

function queriesOf(
  shape: CacheShape,
  tokens: number,
  options: CacheAppendOptions,
  widen: Widen,
): AppendInput['looking'] {
  const checked = checkedOptions<CacheAppendOptions>('the fourth argument of append', options);
  refuseUnknown('append', checked, ['queries', 'queryHeads', 'scale', 'window', 'softcap']);
  const { queries, queryHeads, scale, window, softcap } = checked;
  if (queries === undefined) {
    const idle = Object.entries(checked).find(([, given]) => given !== undefined);
    if (idle === undefined) return undefined;
    throw new GearError('INVALID_OPTION', `${idle[0]} is given without queries; pass queries as well, or leave it out`);
  }
  const heads = checkedCount('queryHeads', queryHeads, 1);
  const json = attentionJson({
    queryHeads: heads,
    ...(scale !== undefined && { scale }),
    ...(window !== undefined && { window }),
    ...(softcap !== undefined && { softcap }),
  });
  const q = kvArray('queries', queries);
  const { batch, headDim } = shape;
  const expected = batch * heads * tokens * headDim;
  if (q.data.length !== expected) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `queries has ${q.data.length} elements; expected ${expected}, those of the ${tokens} tokens that key has: ` +
        `[${batch}, ${heads}, ${tokens}, ${headDim}]`,
    );
  }
  return { queries: widened(q, widen), json };
}

/** The bindings take keys and values of one kind. */
function ofOneKind(key: KvArray, value: KvArray, widen: Widen): KeysAndValues {
  if (key.kind === 'f16' && value.kind === 'f16') return { kind: 'f16', key: key.data, value: value.data };
  return { kind: 'f32', key: widened(key, widen), value: widened(value, widen) };
}

function widened(input: KvArray, widen: Widen): Float32Array {
  return input.kind === 'f32' ? input.data : widen(input.data);
}
