// Never run: `tsc` finds fault with this file when the types allow too much or too little.
import {
  append,
  appendSync,
  type CompressedTensor,
  compress,
  compressSync,
  decompress,
  GearCache,
  type GearErrorCode,
  type GearOptions,
  init,
  type KvData,
  type Preset,
} from 'gear-kv';

const shape = { heads: 1, tokens: 1, headDim: 1 };
const data = new Float32Array(1);

export async function allowed(tensor: CompressedTensor, half: Uint16Array): Promise<void> {
  const every: Required<GearOptions> = {
    preset: 'paper-gear-l-2',
    maxBitsPerElement: 3,
    maxError: 0.1,
    bits: 3,
    meanBits: 2.5,
    layerBits: [0],
    backbone: 'kcvt',
    groupSize: 64,
    range: 'mse',
    scaleBits: 8,
    factorBits: 4,
    rank: 4,
    decodeRank: 2,
    rankByNeed: true,
    powerIterations: 3,
    sparsity: 0.02,
    sinks: 4,
    bufferTokens: 64,
    seed: 1,
    threads: 0,
    nonFinite: 'reject',
    device: 'auto',
  };
  const packed: CompressedTensor = await compress(half, { ...every, shape, role: 'key', backend: 'auto' });
  const floats: Float32Array = await decompress(packed, { signal: AbortSignal.timeout(1), out: data });
  await append(tensor, floats, { signal: new AbortController().signal });
  const cache = new GearCache({ layers: 1, kvHeads: 1, headDim: 1, batch: 2, key: { bits: 4 }, value: every });
  const out: Float32Array = cache.attend(0, half, {
    queryHeads: 2,
    causal: false,
    window: 3,
    softcap: 1,
    scale: 2,
    out: data,
  });
  cache.append(0, out, half);
  cache.append(0, out, half, { queries: half, queryHeads: 2, scale: 2, window: 3, softcap: 1 });
  const code: GearErrorCode = 'NOT_FINITE';
  const name: Preset = 'float16';
  const real: KvData = {} as Float32Array | Uint16Array;
  void [code, name, real, packed.parts.lowRank];
}

export function refused(packed: CompressedTensor): void {
  // @ts-expect-error there is no such preset
  compressSync(data, { shape, role: 'key', preset: 'gear-5' });
  // @ts-expect-error 5 bits are not offered
  compressSync(data, { shape, role: 'key', bits: 5 });
  // @ts-expect-error there is no such role
  compressSync(data, { shape, role: 'query' });
  // @ts-expect-error the role is required
  compressSync(data, { shape });
  // @ts-expect-error a misspelt option
  compressSync(data, { shape, role: 'key', groupsize: 64 });
  // @ts-expect-error a signal cannot stop what runs on the calling thread
  compressSync(data, { shape, role: 'key', signal: AbortSignal.abort() });
  // @ts-expect-error other arrays are not numbers of a cache
  compressSync(new Float64Array(1), { shape, role: 'key' });
  // @ts-expect-error bytes are not float16 bits
  compressSync(new Uint8Array(1), { shape, role: 'key' });
  // @ts-expect-error headDim is required
  new GearCache({ layers: 1, kvHeads: 1 });
  // @ts-expect-error queryHeads is required
  new GearCache({ layers: 1, kvHeads: 1, headDim: 1 }).attend(0, data, {});
  // @ts-expect-error queries of new tokens are causal
  new GearCache({ layers: 1, kvHeads: 1, headDim: 1 }).append(0, data, data, { queries: data, causal: false });
  // @ts-expect-error a single tensor takes no queries
  appendSync(packed, data, { queries: data });
  // @ts-expect-error a number is no source of a module
  init(7);
}
