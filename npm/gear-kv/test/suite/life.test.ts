// A cache's batch reordered, and what it goes on with.
import test from 'ava';
import { kvNumbers, tokenRange } from './numbers.js';
import { gear, presets, refuses, sameBits } from './support.js';

const queryHeads = 4;
const sizes = { batch: 3, heads: 2, tokens: 200, headDim: 64 };
const keys = kvNumbers(sizes, 5);
const values = kvNumbers(sizes, 6);
const perItem = sizes.heads * sizes.headDim;
const query = kvNumbers({ batch: 3, heads: queryHeads, tokens: 1, headDim: 64 }, 7).map((x) => x / 16);

type Cache = InstanceType<typeof gear.GearCache>;

/** Those items of `[batch, …]`. */
function items(all: Float32Array, order: ArrayLike<number>, batch = sizes.batch): Float32Array {
  const own = all.length / batch;
  const picked = new Float32Array(order.length * own);
  Array.from(order).forEach((item, i) => void picked.set(all.subarray(item * own, (item + 1) * own), i * own));
  return picked;
}

function append(cache: Cache, from: number, to: number, order: readonly number[]): void {
  const part = (all: Float32Array) => items(tokenRange(all, sizes, from, to), order);
  for (let layer = 0; layer < cache.layers; layer++) cache.append(layer, part(keys), part(values));
}

function filled(preset: (typeof presets)[number], order: readonly number[]): Cache {
  const cache = new gear.GearCache({ layers: 2, batch: order.length, kvHeads: 2, headDim: 64, preset });
  append(cache, 0, 100, order);
  for (let token = 100; token < 170; token++) append(cache, token, token + 1, order);
  return cache;
}

function answers(cache: Cache, order: readonly number[]): Float32Array[] {
  return [0, 1].flatMap((layer) => [
    cache.attend(layer, items(query, order), { queryHeads }),
    cache.key(layer),
    cache.value(layer),
  ]);
}

function same(one: Float32Array[], other: Float32Array[]): boolean {
  return one.every((array, i) => sameBits(array, other[i] as Float32Array));
}

for (const preset of presets) {
  test(`${preset}: a reordered cache is the one that got its sequences in that order`, async (t) => {
    const original = filled(preset, [0, 1, 2]);
    const before = answers(original, [0, 1, 2]);
    for (const order of [[2, 0, 1], [1, 1, 0, 2], [2]]) {
      const cache = original.fork();
      const expected = filled(preset, order);
      cache.reorder(order);
      t.is(cache.batch, order.length);
      t.is(cache.stats().batch, order.length);
      t.true(same(answers(cache, order), answers(expected, order)), `${order}`);
      t.deepEqual(cache.toBytes(), expected.toBytes());
      append(cache, 170, 200, order);
      append(expected, 170, 200, order);
      t.true(same(answers(cache, order), answers(expected, order)), `${order}, later`);
      const restored = gear.GearCache.fromBytes(cache.toBytes());
      t.true(same(answers(restored, order), answers(expected, order)), `${order}, restored`);
      cache.truncate(120);
      expected.truncate(120);
      t.true(same(answers(cache, order), answers(expected, order)), `${order}, cut`);
      const [frozen, frozenExpected] = [await cache.freeze(), await expected.freeze()];
      t.deepEqual(frozen.toBytes(), frozenExpected.toBytes());
    }
    t.true(same(answers(original, [0, 1, 2]), before));
  });
}

test('a prompt becomes beams, which share it', (t) => {
  const cache = filled('gear-4', [0]);
  const one = cache.byteLength;
  cache.reorder(new Int32Array(4));
  // Sinks and the buffer are there four times.
  t.true(cache.byteLength < one + 3 * 4 * (4 + 6) * perItem * 2 + 1000, `${cache.byteLength} after ${one}`);
  t.is(cache.float16ByteLength, 4 * 2 * 2 * 170 * perItem * 2);
  cache.reorder([3n, 0n] as const);
  t.is(cache.batch, 2);
  t.notThrows(() =>
    cache.append(0, tokenRange(keys, sizes, 0, 1).subarray(0, 2 * perItem), new Float32Array(2 * perItem)),
  );
});

test('an order that names no sequence, or one that is not there, changes nothing', (t) => {
  const cache = filled('gear-4', [0, 1]);
  const before = answers(cache, [0, 1]);
  const bad: unknown[] = [
    [],
    [2],
    [-1],
    [0.5],
    [Number.NaN],
    ['0'],
    [2n ** 64n],
    1,
    undefined,
    { length: 1 },
    new DataView(new ArrayBuffer(4)),
  ];
  for (const order of bad) {
    refuses(t, 'SHAPE_MISMATCH', () => cache.reorder(order as number[]), /order/);
  }
  t.is(cache.batch, 2);
  t.true(same(answers(cache, [0, 1]), before));
});
