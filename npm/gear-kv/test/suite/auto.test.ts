import test from 'ava';
import type { GearOptions } from 'gear-kv';
import { modelAttention, modelLayers, modelShape } from './model-cache.js';
import { kvNumbers, relativeError, widened } from './numbers.js';
import { gear, refuses } from './support.js';

const ROLES = ['key', 'value'] as const;
const FIXED = ['gear-4', 'gear-3', 'gear-2'] as const;

const bitsOf = (packed: { byteLength: number }, elements: number): number => (8 * packed.byteLength) / elements;

test('auto keeps a size, reports what it chose, and is never worse than a fixed preset of that size', async (t) => {
  for (const layer of await modelLayers()) {
    for (const role of ROLES) {
      const bits = layer[role];
      const exact = widened(bits);
      for (const preset of FIXED) {
        const fixed = gear.compressSync(bits, { shape: modelShape, role, preset });
        const maxBitsPerElement = bitsOf(fixed, bits.length);
        const packed = gear.compressSync(bits, { shape: modelShape, role, preset: 'auto', maxBitsPerElement });
        const what = `${layer.name} ${role} at the size of ${preset}: ${JSON.stringify(packed.options)}`;
        t.true(packed.byteLength <= fixed.byteLength, what);
        const [own, theirs] = [packed, fixed].map((p) => relativeError(gear.decompressSync(p), exact)) as [
          number,
          number,
        ];
        t.true(own <= theirs, `${what}: ${own} > ${theirs}`);
        t.is(packed.options.preset, 'auto');
        t.is(packed.options.maxBitsPerElement, maxBitsPerElement);
        t.true(packed.options.meanBits >= 1 && packed.options.meanBits <= maxBitsPerElement, what);
        t.is(packed.options.rank > 0, packed.parts.lowRank > 0, what);
        t.is(packed.options.sparsity > 0, packed.parts.sparse > 0, what);
      }
    }
  }
});

test('auto keeps an error, by fewer bytes the more it is allowed', async (t) => {
  for (const layer of await modelLayers()) {
    for (const role of ROLES) {
      const exact = widened(layer[role]);
      let most = Number.POSITIVE_INFINITY;
      for (const maxError of [0.02, 0.05, 0.1, 0.2]) {
        const packed = gear.compressSync(layer[role], { shape: modelShape, role, preset: 'auto', maxError });
        const error = relativeError(gear.decompressSync(packed), exact);
        const what = `${layer.name} ${role} within ${maxError}: ${error} in ${packed.byteLength} bytes`;
        t.true(error <= maxError, what);
        t.true(packed.byteLength < most, what);
        most = packed.byteLength;
        t.is(packed.options.maxError, maxError);
      }
    }
  }
});

test("a cache's layers share a size between keys and values, and save what they chose", async (t) => {
  const layers = await modelLayers();
  const filled = (options: GearOptions) => {
    const cache = new gear.GearCache({ layers: 4, kvHeads: 3, headDim: 64, ...options });
    layers.forEach(({ key, value }, layer) => {
      cache.append(layer, key, value);
    });
    return cache;
  };
  const exact = filled({ preset: 'float32' });
  const error = (cache: ReturnType<typeof filled>): number[] =>
    layers.map(({ query }, layer) =>
      relativeError(cache.attend(layer, query, modelAttention), exact.attend(layer, query, modelAttention)),
    );
  for (const preset of FIXED) {
    const fixed = filled({ preset });
    const maxBitsPerElement = bitsOf(fixed, fixed.stats().float16ByteLength / 2);
    const cache = filled({ preset: 'auto', maxBitsPerElement });
    const { perLayer, keyOptions } = cache.stats();
    const what = `${preset}: ${JSON.stringify(perLayer.map(({ key, value }) => [key.chosen, value.chosen]))}`;
    t.true(cache.byteLength <= fixed.byteLength && cache.byteLength > 0.99 * fixed.byteLength, what);
    t.true(
      perLayer.every(({ key, value }) => key.chosen && value.chosen),
      what,
    );
    t.is(perLayer[0]?.key.chosen?.meanBits, keyOptions.meanBits);
    const [own, theirs] = [error(cache), error(fixed)];
    const mean = (errors: number[]): number => errors.reduce((sum, e) => sum + e, 0) / errors.length;
    t.true(mean(own) <= mean(theirs), `${what}: ${own} > ${theirs}`);
    const again = gear.GearCache.fromBytes(cache.toBytes());
    t.deepEqual(again.stats(), cache.stats());
  }
});

test('auto chooses when the first tokens are compressed, and the tokens behind them keep to it', (t) => {
  const sizes = { heads: 2, tokens: 300, headDim: 32 };
  const numbers = kvNumbers(sizes, 41);
  const cache = new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 32, preset: 'auto', maxBitsPerElement: 3.5 });
  const chosen = () => cache.stats().perLayer[0]?.key.chosen;
  const token = new Float32Array(64);
  const few = numbers.subarray(0, 20 * 64);
  cache.append(0, few, few);
  t.is(chosen(), undefined, 'all wait in the buffer');
  cache.append(0, numbers, numbers);
  const first = chosen();
  t.truthy(first);
  for (let i = 0; i < 100; i++) cache.append(0, token, token);
  t.deepEqual(chosen(), first);
  t.is(cache.stats().tokens, 420);
});

test('goals are checked', (t) => {
  const shape = { heads: 1, tokens: 80, headDim: 32 };
  const data = kvNumbers(shape, 3);
  const compress = (options: GearOptions) => () => gear.compressSync(data, { shape, role: 'key', ...options });
  refuses(t, 'INVALID_OPTION', compress({ preset: 'auto' }), /exactly one of maxBitsPerElement and maxError/);
  refuses(t, 'INVALID_OPTION', compress({ preset: 'auto', maxError: 0.1, maxBitsPerElement: 3 }), /exactly one/);
  refuses(t, 'INVALID_OPTION', compress({ preset: 'auto', maxBitsPerElement: 17 }), /maxBitsPerElement is 17/);
  refuses(t, 'INVALID_OPTION', compress({ preset: 'auto', maxError: 0 }), /maxError is 0/);
  refuses(t, 'INVALID_OPTION', compress({ preset: 'gear-3', maxError: 0.1 }), /only preset "auto"/);
  refuses(
    t,
    'INVALID_OPTION',
    compress({ preset: 'auto', maxError: 0.1, rank: 2 }),
    /rank is given with preset "auto"/,
  );
  refuses(t, 'OUT_OF_RANGE', compress({ preset: 'auto', maxError: 0.00001 }), /maxError is 0.00001/);
});
