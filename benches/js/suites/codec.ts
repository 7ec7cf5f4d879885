// Compressing and decompressing keys or values of one layer. Rates are of float32.

import { brotliCompressSync, constants, deflateSync, inflateSync } from 'node:zlib';
import { layer } from '../data.js';
import type { Case, Suite } from '../measure.js';
import { dequantize, quantize } from '../plain/quantize.js';
import { type Context, rowName, VARIANTS } from './context.js';

export const COPY = 'memcpy';
export const PLAIN = 'plain JavaScript, 4 bits';
/** Large enough that input and output fit no cache, and memcpy is one of memory. */
const sizes = (quick: boolean) => ({ heads: 8, tokens: quick ? 2048 : 8192, headDim: 128 });

export function compress(role: 'key' | 'value') {
  return async ({ backends, quick }: Context): Promise<Suite> => {
    const shape = sizes(quick);
    const data = layer({ kvHeads: shape.heads, ...shape }, role === 'key' ? 1 : 3);
    const raw = Buffer.from(data.buffer);
    const target = Buffer.alloc(raw.length);
    const bytes = raw.length;
    return {
      name: `compress-${role}s`,
      title: `compress: ${role}s, ${shape.tokens} tokens of ${shape.heads} heads of ${shape.headDim}`,
      baselines: [COPY, PLAIN],
      cases: [
        { name: COPY, bytes, run: () => raw.copy(target) },
        { name: 'zlib, level 1', bytes, run: () => deflateSync(raw, { level: 1 }) },
        {
          name: 'brotli, quality 1',
          bytes,
          run: () => brotliCompressSync(raw, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
        },
        { name: PLAIN, bytes, run: () => quantize(data, shape) },
        ...VARIANTS.map(
          ({ backend, preset }): Case => ({
            name: rowName(preset, backend),
            bytes,
            run: () => backends[backend].compressSync(data, { shape, role, preset, threads: 1 }).dispose(),
          }),
        ),
      ],
      dispose: () => {},
    };
  };
}

export function decompress(role: 'key' | 'value') {
  return async ({ backends, quick }: Context): Promise<Suite> => {
    const shape = sizes(quick);
    const data = layer({ kvHeads: shape.heads, ...shape }, role === 'key' ? 1 : 3);
    const raw = Buffer.from(data.buffer);
    const bytes = raw.length;
    const deflated = deflateSync(raw, { level: 1 });
    const quantized = quantize(data, shape);
    const out = new Float32Array(data.length);
    const target = Buffer.from(out.buffer);
    const packed = VARIANTS.map(({ backend, preset }) =>
      backends[backend].compressSync(data, { shape, role, preset, threads: 1 }),
    );
    return {
      name: `decompress-${role}s`,
      title: `decompress: ${role}s, ${shape.tokens} tokens of ${shape.heads} heads of ${shape.headDim}`,
      baselines: [COPY, PLAIN],
      cases: [
        { name: COPY, bytes, run: () => raw.copy(target) },
        { name: 'zlib', bytes, run: () => inflateSync(deflated) },
        { name: PLAIN, bytes, run: () => dequantize(quantized, out) },
        ...VARIANTS.map(
          ({ backend, preset }, i): Case => ({
            name: rowName(preset, backend),
            bytes,
            // A tensor knows which backend it is of; their classes differ in name only.
            run: () => backends[backend].decompressSync(packed[i] as never, { out }),
          }),
        ),
      ],
      dispose: () => {
        for (const tensor of packed) tensor.dispose();
      },
    };
  };
}
