import test from 'ava';
import type { GearOptions } from 'gear-kv';
import { kvNumbers, relativeError } from './numbers.js';
import { gear, refuses } from './support.js';

const shape = { heads: 3, tokens: 200, headDim: 64 };
const numbers = kvNumbers(shape, 17);

/** Over the numbers of one head six waves, of which two bits leave much. */
const unlike = numbers.map((x, i) => {
  const [d, t, head] = [i % 64, Math.floor(i / 64) % 200, Math.floor(i / 64 / 200)];
  if (head !== 1) return x;
  let sum = x;
  for (let n = 0; n < 6; n++) sum += 6 * Math.sin(t * (n + 1) * 0.37) * Math.cos(d * (2 * n + 3) * 0.61);
  return sum;
});

test('ranks by need take one byte a head more than even ones and leave less of the error', (t) => {
  for (const role of ['key', 'value'] as const) {
    const options: GearOptions = { preset: 'kivi-2', rank: 2, decodeRank: 0, factorBits: 8, powerIterations: 6 };
    const [even, byNeed] = [false, true].map((rankByNeed) =>
      gear.compressSync(unlike, { shape, role, ...options, rankByNeed }),
    );
    if (!even || !byNeed) return t.fail();
    t.is(byNeed.byteLength, even.byteLength + 3);
    t.deepEqual([even.options.rankByNeed, byNeed.options.rankByNeed], [false, true]);
    const [evenError, error] = [even, byNeed].map((packed) => relativeError(gear.decompressSync(packed), unlike));
    t.true((error ?? 1) < 0.95 * (evenError ?? 0), `${role}: ${error} by need, ${evenError} evenly`);
    const again = gear.CompressedTensor.fromBytes(byNeed.toBytes());
    t.deepEqual(gear.decompressSync(again), gear.decompressSync(byNeed));
  }
  refuses(
    t,
    'INVALID_OPTION',
    () => gear.compressSync(numbers, { shape, role: 'key', preset: 'float16', rankByNeed: true }),
    /rankByNeed is given/,
  );
});
