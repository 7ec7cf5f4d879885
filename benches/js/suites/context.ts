import type { GearCache, GearOptions } from 'gear-kv';

/** The same functions on either backend. */
export type Backend = typeof import('gear-kv/native') | typeof import('gear-kv/wasm');
export type BackendName = 'native' | 'wasm';

/** What suites are made from. */
export interface Context {
  backends: Record<BackendName, Backend>;
  quick: boolean;
  /** ONNX Runtime, where it could be had. */
  onnx: ReturnType<typeof import('../onnx.js').onnxRuntime> | undefined;
}

export const PRESETS = ['kivi-4', 'gear-4', 'gear-l-4', 'gear-2'] as const;
export const BACKENDS = ['native', 'wasm'] as const;
/** Every preset on every backend. */
export const VARIANTS = BACKENDS.flatMap((backend) => PRESETS.map((preset) => ({ backend, preset })));

/** A row's name. */
export const rowName = (what: string, backend: BackendName): string => `${what}, ${backend}`;

/**
 * Layers that hold `key` and `value`, `[kvHeads, tokens, headDim]`, on one thread. With a head to a layer its tokens lie in one piece, which is the most
 * favorable order for caches that are not compressed.
 */
export function filled(
  { GearCache: Cache }: Backend,
  options: GearOptions,
  { kvHeads, headDim, layers = 1 }: { kvHeads: number; headDim: number; layers?: number },
  [key, value]: readonly [Float32Array, Float32Array],
): GearCache {
  const cache = new Cache({ ...options, layers, kvHeads: kvHeads / layers, headDim, threads: 1 });
  const share = key.length / layers;
  for (let layer = 0; layer < layers; layer++) {
    const [from, to] = [layer * share, (layer + 1) * share];
    cache.append(layer, key.subarray(from, to), value.subarray(from, to));
  }
  return cache;
}
