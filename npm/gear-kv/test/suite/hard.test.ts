// Data that is hard to quantize, on every backend; the Rust tests have more of it.

import test from 'ava';
import { kvNumbers, relativeError } from './numbers.js';
import { gear, presets } from './support.js';

const shape = { heads: 1, tokens: 134, headDim: 256 };
const plain = kvNumbers(shape, 5);
const channel = (i: number): number => i % shape.headDim;
const token = (i: number): number => Math.floor(i / shape.headDim);

/** All exactly representable in float16. */
const hard: Record<string, Float32Array> = {
  'a head of 256 channels': plain,
  'channels of ±100': plain.map((x, i) => (channel(i) % 23 === 5 ? (x < 0 ? -100 : 100) : x)),
  'a sink of a hundred times the rest': plain.map((x, i) => (token(i) === 0 ? Math.sign(x) * 100 : x)),
  'constant channels': plain.map((x, i) => (channel(i) < 9 ? channel(i) : x)),
  'nothing but a constant': plain.map(() => -3.25),
  'tiny magnitudes': plain.map((x) => x / 65536),
  'huge magnitudes': plain.map((x) => x * 2048),
};

for (const [name, data] of Object.entries(hard)) {
  test(`${name}: no gear-* preset is worse than uniform codes of the same bits`, async (t) => {
    const error = async (options: gear.CompressOptions): Promise<number> => {
      const packed = gear.compressSync(data, options);
      return relativeError(await gear.decompress(packed), data);
    };
    for (const preset of presets.filter((preset) => preset.startsWith('gear-'))) {
      for (const role of ['key', 'value'] as const) {
        const { bits, sinks } = gear.compressSync(data, { shape, role, preset }).options;
        const own = await error({ shape, role, preset });
        const like = { bits, sinks } as gear.GearOptions;
        const uniform = await error({ shape, role, preset: 'uniform-4', ...like });
        // A float16 ulp, for what uniform codes hold exactly: zeros in 8 bits do so of a constant only nearly.
        t.true(own <= uniform + 1 / 1024, `${preset} ${role}: ${own}, uniform ${uniform}`);
        t.true(own < 0.5, `${preset} ${role}: ${own}`);
      }
    }
  });
}
