import type { Backend, BackendName } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import { GearCache } from '../cache.js';
import { compress, decompressSync } from '../compress.js';
import { GearError } from '../errors.js';
import type { Preset, Role } from '../options.js';
import type { CompressedTensor } from '../tensor.js';
import { safetensorsEntries } from './safetensors.js';

// Layers, heads and tokens of the fixture: SmolLM2-135M-Instruct, keys after RoPE; its queries are those of the 32
// tokens after the 512 that are cached, so each of them sees all 512.
const LAYERS = [0, 10, 20, 29];
const SHAPE = { heads: 3, tokens: 512, headDim: 64 };
const QUERY_HEADS = 9;
const ATTEND = { queryHeads: QUERY_HEADS, scale: 1 / 8, causal: false };
/** The rest is streamed, one token at a time, as a decoder does. */
const PROMPT_TOKENS = 448;

/** Timings stop after this many, or after this long. */
const MOST_TIMINGS = 7;
const LEAST_TIMINGS = 3;
const TIMING_MS = 200;

/** What JavaScript engines take at most to optimize WebAssembly that is in use. */
const WARM_UP_MS = 1000;

/** One layer of the fixture; all of it float16 bits. */
export interface Layer {
  key: Uint16Array;
  value: Uint16Array;
  query: Uint16Array;
  exactKey: Float32Array;
  exactValue: Float32Array;
}

/** Attention outputs of the uncompressed float32 cache, one a layer. */
export type Exact = readonly Float32Array[];

/** One preset on one backend. Errors are relative Frobenius norms, averaged over the layers. */
export interface DemoRow {
  preset: Preset;
  backend: BackendName;
  bitsPerElement: number;
  /** Times smaller than float16. */
  ratio: number;
  keyError: number;
  valueError: number;
  attentionError: number;
  /** Float16 bytes of K and V a second. */
  compressGBps: number;
  decompressGBps: number;
}

/** Reads the fixture. */
export function fixtureLayers(backend: Backend, file: Uint8Array): Layer[] {
  const entries = new Map(safetensorsEntries(backend, file).map((entry) => [entry.name, entry]));
  const bits = (name: string): Uint16Array => {
    const entry = entries.get(name);
    if (entry === undefined) throw new GearError('CORRUPT_DATA', `the fixture has no tensor ${name}`);
    return new Uint16Array(file.slice(entry.begin, entry.end).buffer);
  };
  const widened = (half: Uint16Array): Float32Array => guarded(() => backend.binding.widenHalf(half, 'f16'));
  return LAYERS.map((layer) => {
    const key = bits(`layer.${layer}.key`);
    const value = bits(`layer.${layer}.value`);
    const query = bits(`layer.${layer}.query`);
    return { key, value, query, exactKey: widened(key), exactValue: widened(value) };
  });
}

/** The tokens `from` to `to` of every head. */
function tokenRange(data: Uint16Array, from: number, to: number): Uint16Array {
  const { heads, tokens, headDim } = SHAPE;
  const size = (to - from) * headDim;
  const part = new Uint16Array(heads * size);
  for (let head = 0; head < heads; head++) {
    const start = (head * tokens + from) * headDim;
    part.set(data.subarray(start, start + size), head * size);
  }
  return part;
}

/** A cache that got the prompt at once and the rest token by token. */
function streamed(backend: Backend, preset: Preset, layers: readonly Layer[]): GearCache {
  const { heads: kvHeads, headDim, tokens } = SHAPE;
  const cache = new GearCache({ layers: layers.length, kvHeads, headDim, preset, backend: backend.name });
  const append = (from: number, to: number): void =>
    layers.forEach(({ key, value }, index) => {
      cache.append(index, tokenRange(key, from, to), tokenRange(value, from, to));
    });
  append(0, PROMPT_TOKENS);
  for (let token = PROMPT_TOKENS; token < tokens; token++) append(token, token + 1);
  return cache;
}

/** What attention gives on the uncompressed cache. */
export function exactAttention(backend: Backend, layers: readonly Layer[]): Exact {
  const cache = streamed(backend, 'float32', layers);
  const outputs = layers.map(({ query }, index) => cache.attend(index, query, ATTEND));
  cache.dispose();
  return outputs;
}

/** Compresses until what runs has been optimized: the first preset's speed would be that of WebAssembly's first, quick translation. */
export async function warmUp(backend: Backend, preset: Preset, layers: readonly Layer[]): Promise<void> {
  const end = performance.now() + (backend.name === 'wasm' ? WARM_UP_MS : 0);
  while (performance.now() < end) {
    for (const { key, value } of layers) {
      for (const [data, role] of [[key, 'key'] as const, [value, 'value'] as const]) {
        const tensor = await compress(data, { shape: SHAPE, role, preset, backend: backend.name });
        decompressSync(tensor);
        tensor.dispose();
      }
    }
  }
}

/** Measures one preset: errors on the streamed cache, speed on whole tensors. */
export async function measure(
  backend: Backend,
  preset: Preset,
  layers: readonly Layer[],
  exact: Exact,
): Promise<DemoRow> {
  const cache = streamed(backend, preset, layers);
  const { byteLength, float16ByteLength } = cache;
  const keyError = mean(layers.map(({ exactKey }, index) => relativeError(cache.key(index), exactKey)));
  const valueError = mean(layers.map(({ exactValue }, index) => relativeError(cache.value(index), exactValue)));
  const attentionError = mean(
    layers.map(({ query }, index) =>
      relativeError(cache.attend(index, query, ATTEND), exact[index] ?? new Float32Array()),
    ),
  );
  cache.dispose();
  return {
    preset,
    backend: backend.name,
    bitsPerElement: (16 * byteLength) / float16ByteLength,
    ratio: float16ByteLength / byteLength,
    keyError,
    valueError,
    attentionError,
    ...(await speeds(backend, preset, layers, float16ByteLength)),
  };
}

async function speeds(
  backend: Backend,
  preset: Preset,
  layers: readonly Layer[],
  bytes: number,
): Promise<{ compressGBps: number; decompressGBps: number }> {
  const halves = layers.flatMap(({ key, value }): { data: Uint16Array; role: Role }[] => [
    { data: key, role: 'key' },
    { data: value, role: 'value' },
  ]);
  let packed: CompressedTensor[] = [];
  const compressSeconds = await best(async () => {
    for (const tensor of packed) tensor.dispose();
    packed = [];
    for (const { data, role } of halves) {
      packed.push(await compress(data, { shape: SHAPE, role, preset, backend: backend.name }));
    }
  });
  const out = new Float32Array(SHAPE.heads * SHAPE.tokens * SHAPE.headDim);
  const decompressSeconds = await best(async () => {
    for (const tensor of packed) decompressSync(tensor, { out });
  });
  for (const tensor of packed) tensor.dispose();
  return { compressGBps: bytes / compressSeconds / 1e9, decompressGBps: bytes / decompressSeconds / 1e9 };
}

/** Seconds of the fastest of several runs: the one that the rest of the machine disturbed least. */
async function best(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  let fastest = Number.POSITIVE_INFINITY;
  for (let run = 0; run < MOST_TIMINGS; run++) {
    const before = performance.now();
    await work();
    const after = performance.now();
    fastest = Math.min(fastest, after - before);
    if (run + 1 >= LEAST_TIMINGS && after - started > TIMING_MS) break;
  }
  return fastest / 1000;
}

/** `‖given − exact‖ / ‖exact‖`. */
function relativeError(given: Float32Array, exact: Float32Array): number {
  if (given.length !== exact.length) {
    throw new GearError('INTERNAL', `a result has ${given.length} elements where ${exact.length} were expected`);
  }
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < exact.length; i++) {
    const truth = exact[i] ?? 0;
    difference += ((given[i] ?? 0) - truth) ** 2;
    norm += truth ** 2;
  }
  return Math.sqrt(difference / norm);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
