import test from 'ava';
import { kvNumbers, relativeError } from './numbers.js';
import { gear, presets, sameBits } from './support.js';

const shape = { batch: 2, heads: 3, tokens: 150, headDim: 80 };
const data = kvNumbers(shape);

/** Relative Frobenius errors that no preset may exceed on these bell-shaped numbers. */
const errorBound = (preset: string): number => {
  if (preset.startsWith('float')) return 0;
  if (preset.endsWith('8')) return 0.02;
  if (preset.endsWith('4')) return 0.15;
  if (preset.endsWith('3')) return 0.25;
  return 0.6;
};

test('the presets are the documented ones, in the facade and in the core', (t) => {
  t.deepEqual([...gear.presets].sort(), [...presets].sort());
});

for (const preset of presets) {
  for (const role of ['key', 'value'] as const) {
    test(`${preset} ${role}: there and back`, async (t) => {
      const packed = await gear.compress(data, { shape, role, preset });
      t.deepEqual(packed.shape, shape);
      t.is(packed.role, role);
      t.is(packed.tokens, shape.tokens);
      t.is(packed.options.preset, preset);
      const { codes, scales, lowRank, sparse, sinks, buffer, headers } = packed.parts;
      t.is(codes + scales + lowRank + sparse + sinks + buffer + headers, packed.byteLength);
      t.is(packed.float16ByteLength, 2 * data.length);
      t.is(packed.ratio, packed.float16ByteLength / packed.byteLength);
      t.is(packed.bitsPerElement, (8 * packed.byteLength) / data.length);

      const restored = await gear.decompress(packed);
      t.is(restored.length, data.length);
      t.is(restored.byteOffset, 0);
      t.is(restored.buffer.byteLength, restored.byteLength);
      const error = relativeError(restored, data);
      t.true(error <= errorBound(preset), `relative error ${error}`);
      t.true(error > 0 || preset.startsWith('float'), 'a compressed tensor cannot be exact');
      packed.dispose();
    });
  }
}

test('the synchronous twins give the same bytes and numbers', async (t) => {
  const options = { shape, role: 'key', preset: 'gear-4' } as const;
  const background = await gear.compress(data, options);
  const direct = gear.compressSync(data, options);
  t.true(sameBits(background.toBytes(), direct.toBytes()));
  t.true(sameBits(await gear.decompress(background), gear.decompressSync(direct)));
});

test('the default preset is gear-4', (t) => {
  t.is(gear.compressSync(data, { shape, role: 'key' }).options.preset, 'gear-4');
});

test('fields on top of a preset take effect', (t) => {
  const packed = gear.compressSync(data, { shape, role: 'key', preset: 'kivi-4', bits: 8, groupSize: 32 });
  t.is(packed.options.bits, 8);
  t.is(packed.options.groupSize, 32);
  t.true(relativeError(gear.decompressSync(packed), data) < 0.01);
});

test('compression compresses: sizes are what the bits say', (t) => {
  const sizes = (preset: 'kivi-4' | 'kivi-2' | 'float16' | 'float32') =>
    gear.compressSync(data, { shape, role: 'key', preset }).bitsPerElement;
  t.true(sizes('kivi-4') > 4 && sizes('kivi-4') < 5.5);
  t.true(sizes('kivi-2') > 2 && sizes('kivi-2') < 3.5);
  t.true(sizes('float16') >= 16 && sizes('float16') < 16.2);
  t.true(sizes('float32') >= 32 && sizes('float32') < 32.2);
});

test('decompress writes into an array of the caller', async (t) => {
  const packed = gear.compressSync(data, { shape, role: 'value' });
  const expected = gear.decompressSync(packed);
  const space = new Float32Array(data.length + 10).fill(-1);
  const out = space.subarray(4, 4 + data.length);
  t.is(gear.decompressSync(packed, { out }), out);
  t.true(sameBits(out, expected));
  out.fill(0);
  t.is(await gear.decompress(packed, { out }), out);
  t.true(sameBits(out, expected));
  t.deepEqual([...space.subarray(0, 4), ...space.subarray(-6)], new Array(10).fill(-1));
});

test('no tokens, one token, and fewer than a group', (t) => {
  for (const tokens of [0, 1, 7]) {
    const small = { heads: 2, tokens, headDim: 5 };
    const numbers = kvNumbers(small);
    for (const role of ['key', 'value'] as const) {
      const packed = gear.compressSync(numbers, { shape: small, role, preset: 'uniform-8' });
      t.is(packed.tokens, tokens);
      t.is(packed.shape.batch, 1);
      t.true(relativeError(gear.decompressSync(packed), numbers) <= 0.02);
      if (tokens === 0) t.deepEqual([packed.ratio, packed.bitsPerElement, packed.float16ByteLength], [0, 0, 0]);
    }
  }
});

test('a batch item does not see the others', (t) => {
  const one = { ...shape, batch: 1 };
  const size = data.length / 2;
  for (const role of ['key', 'value'] as const) {
    const both = gear.decompressSync(gear.compressSync(data, { shape, role, preset: 'paper-gear-2' }));
    for (const item of [0, 1]) {
      const part = data.subarray(item * size, (item + 1) * size);
      const alone = gear.decompressSync(gear.compressSync(part, { shape: one, role, preset: 'paper-gear-2' }));
      t.true(sameBits(both.subarray(item * size, (item + 1) * size), alone), `${role}, item ${item}`);
    }
  }
});

test('the same input, options and seed give the same bytes, whatever the threads', (t) => {
  const numbers = (threads: number): Float32Array =>
    gear.decompressSync(gear.compressSync(data, { shape, role: 'key', preset: 'paper-gear-4', seed: 7, threads }));
  t.true(sameBits(numbers(1), numbers(2)));
  t.true(sameBits(numbers(1), numbers(1)));
});
