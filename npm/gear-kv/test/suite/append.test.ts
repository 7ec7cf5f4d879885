import test from 'ava';
import { kvNumbers, relativeError, tokenRange } from './numbers.js';
import { gear, refuses, sameBits } from './support.js';

const shape = { batch: 2, heads: 2, tokens: 200, headDim: 48 };
const numbers = kvNumbers(shape, 3);
const part = (from: number, to: number): Float32Array => tokenRange(numbers, shape, from, to);
const compressed = (from: number, to: number, options: object = {}) =>
  gear.compressSync(part(from, to), {
    shape: { ...shape, tokens: to - from },
    role: 'key',
    preset: 'paper-gear-4',
    ...options,
  });

test('append is the compression of the parts, one after the other', (t) => {
  const packed = compressed(0, 100);
  gear.appendSync(packed, part(100, 164));
  gear.appendSync(packed, part(164, 200));
  t.is(packed.tokens, 200);
  const all = gear.decompressSync(packed);
  t.true(sameBits(tokenRange(all, shape, 0, 100), gear.decompressSync(compressed(0, 100))));
  // A segment that comes from the buffer has the rank of decoding.
  const { decodeRank } = packed.options;
  const second = compressed(100, 164, { rank: decodeRank });
  t.true(sameBits(tokenRange(all, shape, 100, 164), gear.decompressSync(second)));
  // What waits in the buffer is as it came: these numbers fit float16.
  t.true(sameBits(tokenRange(all, shape, 164, 200), part(164, 200)));
});

test('tokens one by one end up as the same bytes as all at once', (t) => {
  for (const preset of ['paper-gear-4', 'gear-2', 'kcvt-2', 'uniform-8', 'float16'] as const) {
    const single = compressed(0, 70, { preset });
    const whole = single.fork();
    for (let token = 70; token < 140; token++) gear.appendSync(single, part(token, token + 1));
    if (single.options.storage === 'gear') {
      const { bufferTokens } = single.options;
      for (let from = 70; from < 140; from += bufferTokens) {
        gear.appendSync(whole, part(from, Math.min(140, from + bufferTokens)));
      }
    } else {
      gear.appendSync(whole, part(70, 140));
    }
    t.is(single.tokens, 140);
    t.true(sameBits(single.toBytes(), whole.toBytes()), preset);
  }
});

test('what was compressed once stays as it is', (t) => {
  const packed = compressed(0, 100, { preset: 'gear-2' });
  const before = gear.decompressSync(packed);
  for (let token = 100; token < 200; token++) gear.appendSync(packed, part(token, token + 1));
  t.true(sameBits(tokenRange(gear.decompressSync(packed), shape, 0, 100), before));
});

test('a tensor can be filled from nothing', async (t) => {
  const packed = gear.compressSync(new Float32Array(), { shape: { ...shape, tokens: 0 }, role: 'value' });
  await gear.append(packed, part(0, 200));
  t.is(packed.tokens, 200);
  t.true(relativeError(gear.decompressSync(packed), numbers) < 0.15);
  gear.appendSync(packed, new Float32Array());
  t.is(packed.tokens, 200);
});

test('appends that overlap are done in the order of the calls', async (t) => {
  const packed = compressed(0, 10);
  const expected = packed.fork();
  const cuts = [10, 74, 75, 150, 199, 200];
  const work: Promise<void>[] = [];
  for (let i = 1; i < cuts.length; i++) work.push(gear.append(packed, part(cuts[i - 1] ?? 0, cuts[i] ?? 0)));
  await Promise.all(work);
  for (let i = 1; i < cuts.length; i++) gear.appendSync(expected, part(cuts[i - 1] ?? 0, cuts[i] ?? 0));
  t.true(sameBits(packed.toBytes(), expected.toBytes()));
});

test('a failed append leaves the tensor as it was, and the next one works', async (t) => {
  const packed = compressed(0, 100);
  const before = packed.toBytes();
  const bad = part(100, 190);
  bad[bad.length - 1] = Number.NaN;
  refuses(t, 'NOT_FINITE', () => gear.appendSync(packed, bad));
  t.true(sameBits(packed.toBytes(), before));
  const failing = gear.append(packed, bad);
  const working = gear.append(packed, part(100, 200));
  const error = await t.throwsAsync(failing);
  t.is((error as unknown as { code: string }).code, 'NOT_FINITE');
  await working;
  t.is(packed.tokens, 200);
});

test('while an append is at work the tensor can be read, but not changed', async (t) => {
  const packed = compressed(0, 100);
  const work = gear.append(packed, part(100, 200));
  t.is(packed.tokens, 100);
  refuses(t, 'BUSY', () => packed.truncate(1), /await/);
  refuses(t, 'BUSY', () => packed.clear());
  refuses(t, 'BUSY', () => gear.appendSync(packed, part(0, 1)));
  const forked = packed.fork();
  await work;
  t.is(packed.tokens, 200);
  t.is(forked.tokens, 100);
  packed.truncate(1);
  t.is(packed.tokens, 1);
});

test('a tensor that is disposed of during an append is gone', async (t) => {
  const packed = compressed(0, 100);
  const work = gear.append(packed, part(100, 200));
  packed.dispose();
  const error = await t.throwsAsync(work);
  t.is((error as unknown as { code: string }).code, 'DISPOSED');
});

test('truncate keeps the tokens before it exactly, and appending goes on from there', (t) => {
  const packed = compressed(0, 100);
  gear.appendSync(packed, part(100, 200));
  const all = gear.decompressSync(packed);
  for (const tokens of [199, 170, 164, 101, 60, 1]) {
    packed.truncate(tokens);
    t.is(packed.tokens, tokens);
    t.true(sameBits(gear.decompressSync(packed), tokenRange(all, shape, 0, tokens)), `${tokens} tokens`);
  }
  gear.appendSync(packed, part(1, 200));
  t.is(packed.tokens, 200);
  t.true(relativeError(gear.decompressSync(packed), numbers) < 0.15);
  refuses(t, 'SHAPE_MISMATCH', () => packed.truncate(201), /201/);
  refuses(t, 'SHAPE_MISMATCH', () => packed.truncate(-1), /tokens is -1/);
  refuses(t, 'SHAPE_MISMATCH', () => packed.truncate(0.5));
  t.is(packed.tokens, 200);
});

test('a fork goes its own way', (t) => {
  const packed = compressed(0, 100);
  const fork = packed.fork();
  gear.appendSync(fork, part(100, 200));
  packed.truncate(50);
  t.deepEqual([packed.tokens, fork.tokens], [50, 200]);
  packed.dispose();
  t.is(gear.decompressSync(fork).length, numbers.length);
});

test('clear forgets the tokens and keeps the settings', (t) => {
  const packed = compressed(0, 100, { bits: 8 });
  packed.clear();
  t.is(packed.tokens, 0);
  t.is(packed.options.bits, 8);
  gear.appendSync(packed, part(0, 200));
  t.is(packed.tokens, 200);
});
