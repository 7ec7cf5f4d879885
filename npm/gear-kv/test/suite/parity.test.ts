import test from 'ava';
import { attention } from './attention.js';
import { type Expected, expectedErrors, modelAttention, modelLayers, modelShape } from './model-cache.js';
import { relativeError, widened } from './numbers.js';
import { gear } from './support.js';

/** Relative difference to the reference implementation's errors. */
const DETERMINISTIC_TOLERANCE = 0.001;
/** The start of the power iteration is random in both. */
const POWER_ITERATION_TOLERANCE = 0.02;
/** Relative difference of the sizes, without this package's own headers. */
const SIZE_TOLERANCE = 0.001;

const gearFields = { sparsity: 0.02, rank: 4 } as const;
// A selection: every backbone, every number of bits, and every part. The core's own test goes through all of them.
const methods = {
  'uniform-token-g64/4': { preset: 'uniform-4' },
  'uniform-token-g64/8': { preset: 'uniform-8' },
  'kcvt/4': { preset: 'kcvt-4' },
  'kcvt/2': { preset: 'kcvt-2' },
  'kivi-g64/2': { preset: 'kivi-2' },
  'kivi-g64/3': { preset: 'kivi-2', bits: 3 },
  'kivi-g64/4': { preset: 'kivi-4' },
  'kivi-g32/4': { preset: 'kivi-4', groupSize: 32 },
  'gear-s/kivi-g64/2/s2%': { preset: 'kivi-2', sparsity: 0.02 },
  'gear-l/kivi-g64/4/r4/pi': { preset: 'paper-gear-l-4' },
  'gear-l/kcvt/2/r2/pi': { preset: 'kcvt-2', rank: 2 },
  'gear/kivi-g64/4/s2%/r4/pi': { preset: 'paper-gear-4' },
  'gear/kivi-g64/2/s2%/r4/pi': { preset: 'paper-gear-2' },
  'gear/uniform-token-g64/2/s2%/r4/pi': { preset: 'uniform-2', ...gearFields },
} as const;

const layers = await modelLayers();
const expected = await expectedErrors();

const exact = layers.map(({ key, value, query }) => {
  const k = widened(key);
  const v = widened(value);
  const sizes = { batch: 1, kvHeads: 3, tokens: 512, queries: 32, headDim: 64, ...modelAttention };
  return { k, v, attended: attention(widened(query), k, v, sizes) };
});

for (const [method, options] of Object.entries(methods)) {
  test(`${method}: errors and sizes of the reference`, (t) => {
    const tolerance = method.endsWith('/pi') ? POWER_ITERATION_TOLERANCE : DETERMINISTIC_TOLERANCE;
    layers.forEach(({ name, key, value, query }, index) => {
      const reference = expected[method]?.[name] as Expected;
      const truth = exact[index] ?? { k: new Float32Array(), v: new Float32Array(), attended: new Float32Array() };
      const close = (what: string, given: number, wanted: number, within: number): void =>
        t.true(Math.abs(given / wanted - 1) <= within, `${name} ${what}: ${given}, the reference has ${wanted}`);

      const k = gear.compressSync(key, { shape: modelShape, role: 'key', ...options });
      const v = gear.compressSync(value, { shape: modelShape, role: 'value', ...options });
      close('key error', relativeError(gear.decompressSync(k), truth.k), reference.key_rel_fro, tolerance);
      close('value error', relativeError(gear.decompressSync(v), truth.v), reference.value_rel_fro, tolerance);
      const bits = ({ byteLength, parts }: typeof k): number => (8 * (byteLength - parts.headers)) / key.length;
      close('key bits', bits(k), reference.key_bits_per_elem, SIZE_TOLERANCE);
      close('value bits', bits(v), reference.value_bits_per_elem, SIZE_TOLERANCE);

      const cache = new gear.GearCache({ layers: 1, kvHeads: 3, headDim: 64, ...options, bufferTokens: 64 });
      cache.append(0, key, value);
      const attended = cache.attend(0, query, modelAttention);
      close('attention error', relativeError(attended, truth.attended), reference.attn_out_rel, tolerance);
      cache.dispose();
    });
  });
}
