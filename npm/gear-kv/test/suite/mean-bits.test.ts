import test from 'ava';
import type { GearOptions } from 'gear-kv';
import { kvNumbers, relativeError } from './numbers.js';
import { gear, refuses } from './support.js';

const shape = { heads: 3, tokens: 200, headDim: 64 };
const numbers = kvNumbers(shape, 31);
const compressed = (role: 'key' | 'value', options: GearOptions) =>
  gear.compressSync(numbers, { shape, role, ...options });
const resolved = (role: 'key' | 'value', options: GearOptions): number[] => {
  const { bits, meanBits } = compressed(role, options).options;
  return [bits, meanBits];
};

test('gear-* deal out bits, and bits or a backbone that are given by themselves are meant for every code', (t) => {
  t.deepEqual(
    [resolved('key', { preset: 'gear-4' }), resolved('value', { preset: 'gear-4' })],
    [
      [4, 4.25],
      [4, 4],
    ],
  );
  t.deepEqual(
    [resolved('key', { preset: 'gear-3' }), resolved('value', { preset: 'gear-3' })],
    [
      [4, 3.5],
      [3, 3.25],
    ],
  );
  t.deepEqual(
    [resolved('key', { preset: 'gear-2' }), resolved('value', { preset: 'gear-2' })],
    [
      [3, 2.75],
      [2, 2.4],
    ],
  );
  t.deepEqual(resolved('key', { preset: 'gear-4', bits: 4 }), [4, 0]);
  t.deepEqual(resolved('key', { preset: 'gear-4', bits: 4, meanBits: 3 }), [4, 3]);
  t.deepEqual(resolved('key', { preset: 'gear-4', meanBits: 0 }), [4, 0]);
  t.deepEqual(resolved('key', { preset: 'gear-4', backbone: 'uniform' }), [4, 0]);
  t.deepEqual(resolved('value', { preset: 'gear-4', backbone: 'kivi' }), [4, 0]);
  t.deepEqual(resolved('key', { preset: 'kivi-4' }), [4, 0]);
  t.deepEqual(resolved('key', { preset: 'kcvt-4', meanBits: 2.5 }), [4, 2.5]);
});

test('bits on the average are what codes take, fractions included', (t) => {
  for (const [role, options] of [
    ['key', { preset: 'kivi-4' }],
    ['key', { preset: 'kcvt-4' }],
    ['key', { preset: 'gear-4' }],
    ['key', { preset: 'gear-2', backbone: 'rotated' }],
    ['value', { preset: 'gear-4' }],
  ] as const) {
    let [least, most] = [0, Number.POSITIVE_INFINITY];
    for (const meanBits of [1.5, 2, 2.4, 3.1, 4, 5.5]) {
      const packed = compressed(role, { ...options, meanBits });
      const bits = (8 * packed.parts.codes) / (numbers.length - 3 * packed.options.sinks * 64);
      const what = `${role} ${JSON.stringify({ ...options, meanBits })}: ${bits} bits`;
      // Which width each channel or token has is noted beside its codes.
      t.true(bits > meanBits && bits < meanBits + 0.12, what);
      t.true(bits > least, what);
      const error = relativeError(gear.decompressSync(packed), numbers);
      t.true(error < most, `${what}, error ${error} after ${most}`);
      [least, most] = [bits, error];
    }
  }
});

test('dealing bits out leaves less of the error than the same bits for every code', (t) => {
  // Channels as unlike as those of a model: most of the error is in a few of them.
  const unlike = numbers.map((x, i) => x * (i % 64 < 8 ? 8 : 1));
  const error = (meanBits: number): number => {
    const options = { shape, role: 'key', preset: 'kivi-2', range: 'mse', meanBits } as const;
    return relativeError(gear.decompressSync(gear.compressSync(unlike, options)), unlike);
  };
  t.true(error(2) < 0.8 * error(0), `${error(2)} dealt out, ${error(0)} not`);
});

test('INVALID_OPTION where bits cannot be dealt out', (t) => {
  for (const [role, options] of [
    ['key', { preset: 'uniform-4', meanBits: 3 }],
    ['value', { preset: 'kivi-4', meanBits: 3 }],
    ['value', { preset: 'kcvt-4', meanBits: 3 }],
  ] as const) {
    refuses(t, 'INVALID_OPTION', () => compressed(role, options), /meanBits is 3 with backbone/);
  }
  refuses(t, 'INVALID_OPTION', () => compressed('key', { preset: 'float16', meanBits: 3 }), /meanBits is given/);
});
