import test from 'ava';
import { kvNumbers } from './numbers.js';
import { gear, sameBits } from './support.js';

const shape = { batch: 2, heads: 8, tokens: 512, headDim: 64 };
const numbers = kvNumbers(shape);
const options = { shape, role: 'key', preset: 'paper-gear-4' } as const;
const reason = { why: 'the user left' };

/** What a promise rejects with, which need not be an Error. */
const rejection = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'no rejection',
    (error: unknown) => error,
  );

test('a signal that fired before rejects with its reason', async (t) => {
  const signal = AbortSignal.abort(reason);
  const packed = gear.compressSync(numbers, options);
  const before = packed.toBytes();
  t.is(await rejection(gear.compress(numbers, { ...options, signal })), reason);
  t.is(await rejection(gear.decompress(packed, { signal })), reason);
  t.is(await rejection(gear.append(packed, numbers, { signal })), reason);
  t.true(sameBits(packed.toBytes(), before));
});

test('a signal without a reason of its own rejects with an AbortError', async (t) => {
  const error = await rejection(gear.compress(numbers, { ...options, signal: AbortSignal.abort() }));
  t.is((error as Error).name, 'AbortError');
});

test('a signal that fires during the work rejects with its reason, and what was there stays as it was', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const before = packed.toBytes();
  const starts = [
    (signal: AbortSignal) => gear.compress(numbers, { ...options, signal }),
    (signal: AbortSignal) => gear.decompress(packed, { signal }),
    (signal: AbortSignal) => gear.append(packed, numbers, { signal }),
  ];
  for (const start of starts) {
    const controller = new AbortController();
    const work = rejection(start(controller.signal));
    controller.abort(reason);
    t.is(await work, reason);
  }
  t.true(sameBits(packed.toBytes(), before));
  await gear.append(packed, numbers);
  t.is(packed.tokens, 1024);
});

test('an append that waits for its turn can be stopped, without the others', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const controller = new AbortController();
  const first = gear.append(packed, numbers);
  const second = rejection(gear.append(packed, numbers, { signal: controller.signal }));
  const third = gear.append(packed, numbers);
  controller.abort(reason);
  t.is(await second, reason);
  await Promise.all([first, third]);
  t.is(packed.tokens, 3 * 512);
});

test('an abort after the end changes nothing, and listeners are gone', async (t) => {
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = ((...given: Parameters<typeof add>) => {
    listeners += 1;
    add(...given);
  }) as typeof add;
  signal.removeEventListener = ((...given: Parameters<typeof remove>) => {
    listeners -= 1;
    remove(...given);
  }) as typeof remove;
  const packed = await gear.compress(numbers, { ...options, signal });
  await gear.append(packed, numbers, { signal });
  const restored = await gear.decompress(packed, { signal });
  controller.abort(reason);
  t.is(listeners, 0);
  t.is(packed.tokens, 1024);
  t.is(restored.length, 2 * numbers.length);
});

test('many at once', async (t) => {
  const small = { ...options, shape: { heads: 1, tokens: 64, headDim: 64 } };
  const part = numbers.subarray(0, 64 * 64);
  const all = await Promise.all(Array.from({ length: 50 }, () => gear.compress(part, small)));
  const expected = gear.compressSync(part, small).toBytes();
  t.true(all.every((packed) => sameBits(packed.toBytes(), expected)));
});

test('a timeout is a signal like any other', async (t) => {
  const signal = AbortSignal.timeout(1);
  let error: unknown;
  for (let round = 0; round < 1000 && error === undefined; round++) {
    error = await gear.compress(numbers, { ...options, signal }).then(
      (packed) => packed.dispose(),
      (failure: unknown) => failure,
    );
  }
  t.is((error as Error).name, 'TimeoutError');
});
