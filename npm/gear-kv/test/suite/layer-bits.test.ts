import test from 'ava';
import { kvNumbers, relativeError } from './numbers.js';
import { gear, refuses } from './support.js';

const shape = { heads: 2, tokens: 260, headDim: 64 };
const numbers = kvNumbers(shape, 23);
const sizes = { layers: 3, kvHeads: 2, headDim: 64 };

test('each layer has the bits it is given, in files too', (t) => {
  const cache = new gear.GearCache({
    ...sizes,
    preset: 'gear-3',
    key: { layerBits: [-1, 0, 1.25] },
    value: { layerBits: Float32Array.of(0.5, 0, -0.5) as unknown as number[] },
  });
  for (const layer of [0, 1, 2]) cache.append(layer, numbers, numbers);
  const bits = (of: typeof cache): number[][] =>
    of.stats().perLayer.map(({ key, value }) => [key, value].map(({ parts }) => (8 * parts.codes) / (256 * 2 * 64)));
  const taken = bits(cache);
  [
    [2.5, 3.75],
    [3.5, 3.25],
    [4.75, 2.75],
  ].forEach((means, layer) => {
    means.forEach((mean, half) => {
      const now = taken[layer]?.[half] ?? 0;
      t.true(now > mean && now < mean + 0.12, `layer ${layer}, half ${half}: ${now} bits for ${mean}`);
    });
  });
  const errors = [0, 1, 2].map((layer) => relativeError(cache.key(layer), numbers));
  t.true((errors[0] ?? 0) > (errors[1] ?? 0) && (errors[1] ?? 0) > (errors[2] ?? 0), String(errors));
  const again = gear.GearCache.fromBytes(cache.toBytes());
  t.deepEqual(bits(again), taken);
});

test('bits for layers that are not there, or are no numbers, are refused', (t) => {
  const made = (layerBits: unknown) => () => new gear.GearCache({ ...sizes, layerBits: layerBits as number[] });
  refuses(t, 'INVALID_OPTION', made([1, 2]), /layerBits has 2 numbers; expected one for each of the cache's 3 layers/);
  refuses(t, 'INVALID_OPTION', made([0, 0, 8]), /layerBits of layer 2 is 8/);
  refuses(t, 'INVALID_OPTION', made([0, Number.NaN, 0]), /layerBits\[1\] is NaN/);
  refuses(t, 'INVALID_OPTION', made(['1', 0, 0]), /layerBits\[0\]/);
  refuses(t, 'INVALID_OPTION', made('more'), /layerBits|layer_bits|invalid type/);
  refuses(
    t,
    'INVALID_OPTION',
    () => new gear.GearCache({ ...sizes, preset: 'kivi-4', layerBits: [0, 0, 0] }),
    /meanBits/,
  );
  refuses(
    t,
    'INVALID_OPTION',
    () => gear.compressSync(numbers, { shape, role: 'key', layerBits: [1] }),
    /a tensor has no layers/,
  );
});
