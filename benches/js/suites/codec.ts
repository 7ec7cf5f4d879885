// Compressing and decompressing keys or values of one layer. Rates are of float32.

import { brotliCompressSync, constants, deflateSync, inflateSync } from 'node:zlib';
import { layer } from '../data.js';
import type { Case, Suite } from '../measure.js';
import { dequantize, quantize } from '../plain/quantize.js';
import { type Context, rowName, VARIANTS } from './context.js';

export const COPY = 'memcpy';
export const PLAIN = 'plain JavaScript, 4 bits';
const SHAPE = { heads: 8, tokens: 2048, headDim: 128 };
const WHAT = `${SHAPE.tokens} tokens of 8 heads of 128`;

export function compress(role: 'key' | 'value') {
  return async ({ backends }: Context): Promise<Suite> => {
    const data = layer({ kvHeads: SHAPE.heads, ...SHAPE }, role === 'key' ? 1 : 3);
    const raw = Buffer.from(data.buffer);
    const target = Buffer.alloc(raw.length);
    const bytes = raw.length;
    return {
      name: `compress-${role}s`,
      title: `compress: ${role}s, ${WHAT}`,
      baselines: [COPY, PLAIN],
      cases: [
        { name: COPY, bytes, run: () => raw.copy(target) },
        { name: 'zlib, level 1', bytes, run: () => deflateSync(raw, { level: 1 }) },
        {
          name: 'brotli, quality 1',
          bytes,
          run: () => brotliCompressSync(raw, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } }),
        },
        { name: PLAIN, bytes, run: () => quantize(data, SHAPE) },
        ...VARIANTS.map(
          ({ backend, preset }): Case => ({
            name: rowName(preset, backend),
            bytes,
            run: () => backends[backend].compressSync(data, { shape: SHAPE, role, preset, threads: 1 }).dispose(),
          }),
        ),
      ],
      dispose: () => {},
    };
  };
}

export function decompress(role: 'key' | 'value') {
  return async ({ backends }: Context): Promise<Suite> => {
    const data = layer({ kvHeads: SHAPE.heads, ...SHAPE }, role === 'key' ? 1 : 3);
    const raw = Buffer.from(data.buffer);
    const bytes = raw.length;
    const deflated = deflateSync(raw, { level: 1 });
    const quantized = quantize(data, SHAPE);
    const out = new Float32Array(data.length);
    const target = Buffer.from(out.buffer);
    const packed = VARIANTS.map(({ backend, preset }) =>
      backends[backend].compressSync(data, { shape: SHAPE, role, preset, threads: 1 }),
    );
    return {
      name: `decompress-${role}s`,
      title: `decompress: ${role}s, ${WHAT}`,
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
