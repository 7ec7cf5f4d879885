// A cache's batch reordered, and what it goes on with.
import test from 'ava';
import { attention } from './attention.js';
import { kvNumbers, relativeError, tokenRange } from './numbers.js';
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

/** What is left of `[batch, heads, tokens, headDim]`. */
function without(all: Float32Array, tokens: number, keep: number, drop: number): Float32Array {
  const shape = { ...sizes, tokens };
  const [first, last] = [tokenRange(all, shape, 0, keep), tokenRange(all, shape, keep + drop, tokens)];
  const [own, rest] = [keep * sizes.headDim, (tokens - keep - drop) * sizes.headDim];
  const left = new Float32Array(first.length + last.length);
  for (let plane = 0; plane < sizes.batch * sizes.heads; plane++) {
    left.set(first.subarray(plane * own, (plane + 1) * own), plane * (own + rest));
    left.set(last.subarray(plane * rest, (plane + 1) * rest), plane * (own + rest) + own);
  }
  return left;
}

for (const preset of presets) {
  test(`${preset}: what is left after a shift is what it was, and is attended to`, async (t) => {
    const original = filled(preset, [0, 1, 2]);
    const before = answers(original, [0, 1, 2]);
    // Inside the prompt, to its end, behind it, into the buffer; the last keeps more than sinks.
    for (const { drop, keep } of [{ drop: 30 }, { drop: 96 }, { drop: 130 }, { drop: 160 }, { drop: 50, keep: 20 }]) {
      const cache = original.fork();
      cache.shift(keep === undefined ? { drop } : { drop, keep });
      const tokens = 170 - drop;
      t.is(cache.tokens, tokens);
      for (let layer = 0; layer < 2; layer++) {
        const kept = keep ?? cache.stats().keyOptions.sinks;
        t.true(sameBits(cache.key(layer), without(before[3 * layer + 1] as Float32Array, 170, kept, drop)));
        t.true(sameBits(cache.value(layer), without(before[3 * layer + 2] as Float32Array, 170, kept, drop)));
      }
      const attends = () => {
        const exact = { ...sizes, kvHeads: sizes.heads, tokens: cache.tokens, queryHeads, queries: 1 };
        const expected = attention(query, cache.key(0), cache.value(0), exact);
        t.true(relativeError(cache.attend(0, query, { queryHeads }), expected) < 1e-3, `${drop} of ${preset}`);
      };
      attends();
      append(cache, 170, 200, [0, 1, 2]);
      attends();
      t.is(cache.tokens, tokens + 30);
      const restored = gear.GearCache.fromBytes(cache.toBytes());
      t.true(same(answers(restored, [0, 1, 2]), answers(cache, [0, 1, 2])), `${drop} of ${preset}, restored`);
      const [frozen, again] = [await cache.freeze(), await restored.freeze()];
      t.deepEqual(frozen.toBytes(), again.toBytes());
      t.is(frozen.tokens, cache.tokens);
    }
    t.true(same(answers(original, [0, 1, 2]), before));
  });
}

test('a shift that cannot be done changes nothing', (t) => {
  const cache = filled('gear-4', [0, 1]);
  const before = answers(cache, [0, 1]);
  for (const options of [
    { drop: 167 },
    { drop: 1, keep: 3 },
    { drop: 1, keep: 170 },
    { drop: -1 },
    { drop: 0.5 },
    { keep: 4 },
  ]) {
    refuses(t, 'SHAPE_MISMATCH', () => cache.shift(options as { drop: number }));
  }
  refuses(t, 'INVALID_OPTION', () => cache.shift({ drop: 1, sinks: 4 } as { drop: number }), /sinks/);
  refuses(t, 'INVALID_OPTION', () => cache.shift(undefined as unknown as { drop: number }));
  t.is(cache.tokens, 170);
  t.true(same(answers(cache, [0, 1]), before));
});

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
