// One decoding step: a query for every query head, over all tokens of a layer.

import type { GearCache, GearOptions } from 'gear-kv';
import { type LayerShape, layer, queryOf } from '../data.js';
import type { Case, Suite } from '../measure.js';
import { attention, groupQueryAttention } from '../onnx.js';
import { attendFloat32 } from '../plain/attend.js';
import { type BackendName, type Context, filled, rowName, VARIANTS } from './context.js';

export const FLOAT32 = rowName('float32', 'native');
export const FLOAT16 = rowName('float16', 'native');

export function attend(name: string, heads: Omit<LayerShape, 'tokens'>) {
  return async (context: Context): Promise<Suite> => {
    const shape = { ...heads, tokens: context.quick ? 4096 : 32_768 };
    const { kvHeads, queryHeads, tokens, headDim } = shape;
    const [key, value] = [layer(shape, 1), layer(shape, 3)];
    const query = queryOf(shape);
    const out = new Float32Array(query.length);
    const bytes = key.byteLength + value.byteLength;
    const caches: GearCache[] = [];
    const held = (preset: string, backend: BackendName, layers = 1): GearCache => {
      const options = { preset } as GearOptions;
      const cache = filled(context.backends[backend], options, { kvHeads, headDim, layers }, [key, value]);
      caches.push(cache);
      return cache;
    };
    const uncompressed = (preset: 'float32' | 'float16', backend: BackendName): Case => {
      const cache = held(preset, backend, kvHeads);
      return { name: rowName(preset, backend), bytes: cache.byteLength, run: () => eachLayer(cache) };
    };
    const sharing = queryHeads / kvHeads;
    const share = sharing * headDim;
    const parts = Array.from({ length: kvHeads }, (_, head) =>
      [query, out].map((x) => x.subarray(head * share, (head + 1) * share)),
    ) as [Float32Array, Float32Array][];
    const eachLayer = (cache: GearCache): void => {
      parts.forEach(([q, o], head) => {
        cache.attend(head, q, { queryHeads: sharing, out: o });
      });
    };
    const step = { ...shape, key, value, query, out };
    const { onnx } = context;
    return {
      name,
      title: `attend: one query for each of ${queryHeads} heads, ${tokens} tokens, ${kvHeads} KV heads of ${headDim}`,
      baselines: [FLOAT32, FLOAT16],
      cases: [
        { name: 'memcpy of K and V', bytes, run: copying(key, value) },
        { name: 'plain JavaScript, float32', bytes, run: () => attendFloat32(key, value, query, shape) },
        ...(onnx === undefined
          ? []
          : [
              { name: 'onnxruntime Attention, float32', bytes, run: await attention(onnx, step) },
              { name: 'onnxruntime GroupQueryAttention', bytes, run: await groupQueryAttention(onnx, step) },
            ]),
        uncompressed('float32', 'native'),
        uncompressed('float16', 'native'),
        uncompressed('float16', 'wasm'),
        ...VARIANTS.map(({ backend, preset }): Case => {
          const cache = held(preset, backend);
          return {
            name: rowName(preset, backend),
            bytes: cache.byteLength,
            run: () => cache.attend(0, query, { queryHeads, out }),
          };
        }),
      ],
      dispose: () => disposeAll(caches),
    };
  };
}

function disposeAll(caches: readonly GearCache[]): void {
  for (const cache of caches) cache.dispose();
}

function copying(key: Float32Array, value: Float32Array): () => void {
  const [k, v] = [key, value].map((x) => new Float32Array(x.length)) as [Float32Array, Float32Array];
  return () => {
    k.set(key);
    v.set(value);
  };
}

/** A chunk of a prompt: 256 queries a head. */
export async function prefill({ backends, quick }: Context): Promise<Suite> {
  const shape = { kvHeads: 8, queryHeads: 32, headDim: 128, tokens: quick ? 1024 : 2048 };
  const { kvHeads, queryHeads, tokens, headDim } = shape;
  const kv = [layer(shape, 1), layer(shape, 3)] as const;
  const queries = 256;
  const query = queryOf({ queryHeads: queryHeads * queries, headDim });
  const out = new Float32Array(query.length);
  const caches: GearCache[] = [];
  const variants = [
    ...(['float32', 'float16'] as const).map((preset) => ({ preset, backend: 'native' as const })),
    ...VARIANTS,
  ];
  return {
    name: 'prefill',
    title: `attend: a prompt's chunk of ${queries} queries for each of ${queryHeads} heads, ${tokens} tokens, ${kvHeads} KV heads of ${headDim}`,
    baselines: [FLOAT32],
    cases: variants.map(({ preset, backend }) => {
      const cache = filled(backends[backend], { preset }, { kvHeads, headDim }, kv);
      caches.push(cache);
      return {
        name: rowName(preset, backend),
        bytes: cache.byteLength,
        run: () => cache.attend(0, query, { queryHeads, out }),
      };
    }),
    dispose: () => disposeAll(caches),
  };
}
