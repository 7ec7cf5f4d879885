import test from 'ava';
import type { GearOptions } from 'gear-kv';
import { type Expected, expectedErrors, modelAttention, modelLayers, modelShape } from './model-cache.js';
import { relativeError, widened } from './numbers.js';
import { gear } from './support.js';

/** Relative difference to the reference implementation's errors. */
const DETERMINISTIC_TOLERANCE = 0.001;
/** The start of the power iteration is random in both. */
const POWER_ITERATION_TOLERANCE = 0.02;
/** What rounding K and V to float16 does to the output. */
const ROUNDING_TOLERANCE = 0.002;
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

/** The reference rounds what it decompressed to float16. */
const rounded = (numbers: Float32Array): Float32Array =>
  gear.decompressSync(gear.compressSync(numbers, { shape: modelShape, role: 'key', preset: 'float16' }));

function attended(
  key: Float32Array | Uint16Array,
  value: Float32Array | Uint16Array,
  query: Uint16Array,
  options: GearOptions,
): Float32Array {
  const cache = new gear.GearCache({ layers: 1, kvHeads: 3, headDim: 64, ...options });
  cache.append(0, key, value);
  const out = cache.attend(0, query, modelAttention);
  cache.dispose();
  return out;
}

const exact = layers.map(({ key, value, query }) => ({
  k: widened(key),
  v: widened(value),
  attended: attended(key, value, query, { preset: 'float32' }),
}));

for (const [method, options] of Object.entries(methods)) {
  test(`${method}: errors and sizes of the reference`, (t) => {
    const tolerance = method.endsWith('/pi') ? POWER_ITERATION_TOLERANCE : DETERMINISTIC_TOLERANCE;
    layers.forEach(({ name, key, value, query }, index) => {
      const reference = expected[method]?.[name] as Expected;
      const truth = exact[index] as (typeof exact)[number];
      const close = (what: string, given: number, wanted: number, within: number): void => {
        t.true(Math.abs(given / wanted - 1) <= within, `${name} ${what}: ${given}, the reference has ${wanted}`);
      };

      const k = gear.compressSync(key, { shape: modelShape, role: 'key', ...options });
      const v = gear.compressSync(value, { shape: modelShape, role: 'value', ...options });
      const thawedKey = rounded(gear.decompressSync(k));
      const thawedValue = rounded(gear.decompressSync(v));
      close('key error', relativeError(thawedKey, truth.k), reference.key_rel_fro, tolerance);
      close('value error', relativeError(thawedValue, truth.v), reference.value_rel_fro, tolerance);
      const thawedOut = attended(thawedKey, thawedValue, query, { preset: 'float32' });
      close('attention error', relativeError(thawedOut, truth.attended), reference.attn_out_rel, tolerance);
      // The same without ever decompressing; a buffer of 64 makes the 512 tokens one segment, as in the reference.
      const compressedOut = attended(key, value, query, { ...options, bufferTokens: 64 });
      const difference = relativeError(compressedOut, thawedOut);
      t.true(difference < ROUNDING_TOLERANCE, `${name}: attend differs by ${difference}`);
      const bits = ({ byteLength, parts }: typeof k): number => (8 * (byteLength - parts.headers)) / key.length;
      close('key bits', bits(k), reference.key_bits_per_elem, SIZE_TOLERANCE);
      close('value bits', bits(v), reference.value_bits_per_elem, SIZE_TOLERANCE);
    });
  });
}
