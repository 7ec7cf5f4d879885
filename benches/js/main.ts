// What the package does beside what a JavaScript program would do without it, in one run: `npm run bench`.
//
// A layer of a 7B-class model: 8 KV heads of 128, 32 query heads, 2048 tokens. Each suite prints how many times faster each
// row is than its first one.

import { promisify } from 'node:util';
import { brotliCompressSync, constants, deflateSync, inflateSync } from 'node:zlib';
import benny from 'benny';
import { attendFloat32 } from './attend.js';

const gears = { native: await import('gear-kv/native'), wasm: await import('gear-kv/wasm') };
const SHAPE = { kvHeads: 8, queryHeads: 32, tokens: 2048, headDim: 128 };
const { kvHeads: heads, queryHeads, tokens, headDim } = SHAPE;

/** Noise with a few strong channels, as keys have. */
function numbers(): Float32Array {
  let state = 1;
  return Float32Array.from({ length: heads * tokens * headDim }, (_, i) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state / 2 ** 31 - 1) * (i % 31 === 5 ? 12 : 1);
  });
}

const data = numbers();
const raw = new Uint8Array(data.buffer);
const shape = { heads, tokens, headDim };
const query = new Float32Array(queryHeads * headDim).fill(0.1);
const presets = ['kivi-4', 'gear-4', 'gear-2'] as const;
const backends = ['native', 'wasm'] as const;
const variants = backends.flatMap((backend) => presets.map((preset) => ({ backend, preset })));

/** Runs the cases in turn and prints each one's time and its ratio to the first. */
async function suite(name: string, cases: [string, () => void][]): Promise<void> {
  const summary = await benny.suite(name, ...cases.map(([title, run]) => benny.add(title, run)));
  const [first] = summary.results;
  console.log(`\n${name}`);
  for (const result of summary.results) {
    const ratio = result.ops / (first?.ops ?? result.ops);
    console.log(`  ${result.name.padEnd(24)} ${(1000 / result.ops).toFixed(2).padStart(9)} ms   ${ratio.toFixed(2)} x`);
  }
  await promisify(setImmediate)();
}

const deflated = deflateSync(raw, { level: 1 });
const packed = variants.map(({ backend, preset }) =>
  gears[backend].compressSync(data, { shape, role: 'key', preset, threads: 1 }),
);
const caches = variants.map(({ backend, preset }) => {
  const cache = new gears[backend].GearCache({ layers: 1, kvHeads: heads, headDim, preset, threads: 1 });
  cache.append(0, data, data);
  return cache;
});
const out = new Float32Array(data.length);
const attended = new Float32Array(query.length);

console.log(`native: ${gears.native.backend().simd}, wasm: ${gears.wasm.backend().simd}; one thread`);
await suite('compress 2048 tokens of K', [
  ['zlib, level 1', () => void deflateSync(raw, { level: 1 })],
  ['brotli, quality 1', () => void brotliCompressSync(raw, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })],
  ...variants.map(({ backend, preset }): [string, () => void] => [
    `${preset}, ${backend}`,
    () => gears[backend].compressSync(data, { shape, role: 'key', preset, threads: 1 }).dispose(),
  ]),
]);
await suite('decompress 2048 tokens of K', [
  ['zlib', () => void inflateSync(deflated)],
  ...variants.map(({ backend, preset }, i): [string, () => void] => [
    `${preset}, ${backend}`,
    () => void gears[backend].decompressSync(packed[i] as never, { out }),
  ]),
]);
await suite('attend to 2048 tokens, one query', [
  ['plain JavaScript, float32', () => void attendFloat32(data, data, query, SHAPE)],
  ...variants.map(({ backend, preset }, i): [string, () => void] => [
    `${preset}, ${backend}`,
    () => void caches[i]?.attend(0, query, { queryHeads, out: attended }),
  ]),
]);
console.log(`\nbytes: float32 ${raw.length}, zlib ${deflated.length}`);
variants.slice(0, presets.length).forEach(({ preset }, i) => {
  console.log(
    `  ${preset.padEnd(24)} ${packed[i]?.byteLength} (${(raw.length / (packed[i]?.byteLength ?? 1)).toFixed(1)} times smaller than float32)`,
  );
});
