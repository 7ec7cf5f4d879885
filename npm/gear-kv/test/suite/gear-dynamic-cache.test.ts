import test from 'ava';
import {
  type FrozenPrefix,
  freezeCache,
  GearDynamicCache,
  type GearDynamicCacheOptions,
  init,
  thawCache,
} from 'gear-kv/transformers';
import {
  DynamicCache,
  type FakeModel,
  generate,
  numbersIn,
  OrtTensor,
  promptOf,
  SMALL,
  Tensor,
  talked,
} from './fake-model.js';
import { refuses, rejects, sameBits } from './support.js';

await init();

const classes = { DynamicCache, Tensor };
const lossless = { preset: 'float32' } as const;

/** A conversation of three turns on a cache. */
async function conversation(model: FakeModel, cache: GearDynamicCache | DynamicCache, settled: boolean) {
  let ids = promptOf(90);
  const lengths: number[] = [];
  for (const seed of [11, 12, 13]) {
    if (cache instanceof GearDynamicCache) lengths.push(cache.keepPrefixOf(ids));
    ids = await generate(model, { inputIds: ids, cache, newTokens: 6 });
    if (cache instanceof GearDynamicCache) {
      cache.tokenIds = ids;
      if (settled) await cache.settle();
    }
    ids = [...ids, ...promptOf(15, seed)];
  }
  return { ids, lengths };
}

test('a GearDynamicCache without loss says what a DynamicCache says, turn by turn', async (t) => {
  for (const model of [SMALL, { ...SMALL, type: 'float16' as const }]) {
    const { ids } = await conversation(model, new DynamicCache(), false);
    for (const settled of [true, false]) {
      using cache = new GearDynamicCache(lossless);
      const told = await conversation(model, cache, settled);
      t.deepEqual(told.ids, ids, `${model.type}, ${settled ? 'settled' : 'at once'}`);
      t.deepEqual(told.lengths, [0, 95, 116]);
    }
  }
});

test('what a GearDynamicCache holds does not depend on when the next call comes', async (t) => {
  const held: Uint8Array[] = [];
  for (const settled of [true, false]) {
    using cache = new GearDynamicCache({ preset: 'gear-2' });
    await conversation(SMALL, cache, settled);
    using frozen = await cache.freeze();
    held.push(new Uint8Array(frozen.cache.toBytes()));
  }
  t.true(sameBits(held[0] as Uint8Array, held[1] as Uint8Array));
});

test('what a call reads is what was compressed, also if it comes at once and compares nothing', async (t) => {
  const read: Float32Array[] = [];
  const answers: number[][] = [];
  for (const settled of [true, false]) {
    using cache = new GearDynamicCache({ preset: 'gear-2' });
    const ids = await generate(SMALL, { inputIds: promptOf(200), cache, newTokens: 2 });
    if (settled) await cache.settle();
    answers.push(await generate(SMALL, { inputIds: [...ids, 7, 8, 9], cache, newTokens: 3 }));
    read.push(numbersIn(cache, 'past_key_values.2.key') as Float32Array);
  }
  t.true(sameBits(read[0] as Float32Array, read[1] as Float32Array));
  t.deepEqual(answers[0], answers[1]);
});

test('between calls a GearDynamicCache holds nothing but what is compressed', async (t) => {
  using cache = new GearDynamicCache({ preset: 'gear-4' });
  const ids = await generate(SMALL, { inputIds: promptOf(600), cache, newTokens: 3 });
  const running = cache['past_key_values.1.key'] as Tensor;
  t.is(cache['past_key_values.1.key'], running, 'a running call has the tensors of the model');
  await cache.settle();
  t.is(cache.get_seq_length(), ids.length - 1);
  t.true(
    cache.byteLength > 0 && cache.byteLength < running.dims.reduce((a, b) => a * b) * 4 * 6 * 0.17,
    `${cache.byteLength}`,
  );
  const [one, two] = [cache['past_key_values.1.key'] as Tensor, cache['past_key_values.1.key'] as Tensor];
  t.not(one, running);
  t.not(one, two, 'made anew each time, so that nobody holds it');
  t.false(sameBits(one.data, running.data));
  t.true(sameBits(one.data, two.data));
});

test('tokens that are compressed once are never compressed again', async (t) => {
  using cache = new GearDynamicCache({ preset: 'gear-2', sinks: 0 });
  const ids = await generate(SMALL, { inputIds: promptOf(200), cache, newTokens: 1 });
  await cache.settle();
  const before = (cache['past_key_values.0.key'] as Tensor).data as Float32Array;
  for (let seed = 20; seed < 25; seed++) {
    const held = cache.get_seq_length();
    await generate(SMALL, { inputIds: [...Array(held).fill(0), ...promptOf(70, seed)], cache, newTokens: 2 });
    await cache.settle();
  }
  const after = (cache['past_key_values.0.key'] as Tensor).data as Float32Array;
  const tokens = cache.get_seq_length();
  t.is(ids.length, 201);
  for (let head = 0; head < 2; head++) {
    const rows = after.subarray(head * tokens * 32, head * tokens * 32 + 200 * 32);
    t.true(sameBits(rows, before.subarray(head * 200 * 32, (head + 1) * 200 * 32)), `head ${head}`);
  }
});

test('a GearDynamicCache forgets what the next prompt does not begin with', async (t) => {
  const uncached = (inputIds: number[]) => generate(SMALL, { inputIds, cache: new DynamicCache(), newTokens: 3 });
  using cache = new GearDynamicCache(lossless);
  const ids = await generate(SMALL, { inputIds: promptOf(60), cache, newTokens: 3 });
  cache.tokenIds = ids;
  const branch = [...ids.slice(0, 61), ...promptOf(5, 3)];
  t.is(cache.keepPrefixOf(branch), 61);
  t.deepEqual(await generate(SMALL, { inputIds: branch, cache, newTokens: 3 }), await uncached(branch));
  const other = [(branch[0] ?? 0) + 1, ...branch];
  t.is(cache.keepPrefixOf(other), 0);
  t.deepEqual(Object.keys(cache), []);
  t.deepEqual(await generate(SMALL, { inputIds: other, cache, newTokens: 3 }), await uncached(other));
  // What nobody said is in it is not taken on trust.
  using unknown = new GearDynamicCache();
  await generate(SMALL, { inputIds: promptOf(60), cache: unknown });
  t.is(unknown.keepPrefixOf(promptOf(60)), 0);
});

test('a state of a hybrid model goes with all tokens or with none', async (t) => {
  const model = { ...SMALL, hybrid: true };
  const uncached = new DynamicCache();
  const reference = await generate(model, { inputIds: promptOf(40), cache: uncached, newTokens: 2 });
  using cache = new GearDynamicCache(lossless);
  cache.keepPrefixOf(promptOf(40));
  const ids = await generate(model, { inputIds: promptOf(40), cache, newTokens: 2 });
  t.deepEqual(ids, reference);
  await cache.settle();
  t.deepEqual(Object.keys(cache).sort(), Object.keys(uncached).sort());
  t.true(sameBits(numbersIn(cache, 'past_conv.1'), numbersIn(uncached, 'past_conv.1')));
  using frozen = await freezeCache(cache, { tokenIds: ids });
  using again = new GearDynamicCache({ from: frozen, Tensor } as GearDynamicCacheOptions);
  t.true(sameBits(numbersIn(again, 'past_recurrent.1'), numbersIn(uncached, 'past_recurrent.1')));
  t.is(again.keepPrefixOf([...ids, 1]), 41);
  t.is(again.keepPrefixOf(ids.slice(0, 20)), 0);
});

test('a GearDynamicCache begins with what was frozen, and freezes without compressing again', async (t) => {
  const { cache: made, ids } = await talked(SMALL, 150);
  using frozen = await freezeCache(made, { tokenIds: ids, model: 'fake', preset: 'gear-2' });
  using cache = new GearDynamicCache({ from: frozen, Tensor } as GearDynamicCacheOptions);
  t.is(cache.get_seq_length(), 152);
  using same: FrozenPrefix = await freezeCache(cache, { model: 'fake' });
  t.true(sameBits(same.cache.toBytes(), frozen.cache.toBytes()));
  t.deepEqual(same.tokenIds, frozen.tokenIds);
  t.is(cache.keepPrefixOf([...ids, 4]), 152);
  await generate(SMALL, { inputIds: [...ids, 4], cache, newTokens: 2 });
  await cache.settle();
  t.is(frozen.tokens, 152, 'what it began with stays as it is');
  t.is(cache.get_seq_length(), 155);
  t.throws(() => new GearDynamicCache({ from: frozen } as GearDynamicCacheOptions), { code: 'INVALID_OPTION' });
  t.throws(() => new GearDynamicCache({ from: frozen, Tensor, preset: 'gear-4' } as GearDynamicCacheOptions), {
    code: 'INVALID_OPTION',
  });
  await rejects(t, 'INVALID_OPTION', () => freezeCache(cache, { preset: 'gear-4' }), /compressed already/);
  await rejects(t, 'SHAPE_MISMATCH', () => freezeCache(new GearDynamicCache()), /empty/);
});

test('a call that fails leaves a cache that the next one can use', async (t) => {
  using cache = new GearDynamicCache(lossless);
  const prompt = promptOf(50);
  cache.keepPrefixOf(prompt);
  await t.throwsAsync(generate({ ...SMALL, failAt: 3 }, { inputIds: prompt, cache, newTokens: 5 }), {
    message: /session failed/,
  });
  t.is(cache.get_seq_length(), 51);
  t.is(cache.keepPrefixOf(prompt), 49);
  const reference = await generate(SMALL, { inputIds: prompt, cache: new DynamicCache(), newTokens: 5 });
  t.deepEqual(await generate(SMALL, { inputIds: prompt, cache, newTokens: 5 }), reference);
});

test('entries of another model, fewer tokens and values that are not finite are refused', async (t) => {
  using cache = new GearDynamicCache();
  await generate(SMALL, { inputIds: promptOf(30), cache });
  await cache.settle();
  const { cache: larger } = await talked({ ...SMALL, layers: 4 }, 40);
  refuses(t, 'MODEL_MISMATCH', () => cache.update({ ...larger } as never));
  const { cache: shorter } = await talked(SMALL, 10);
  refuses(t, 'SHAPE_MISMATCH', () => cache.update({ ...shorter } as never), /grows only/);
  const { cache: broken } = await talked(SMALL, 60);
  (numbersIn(broken, 'past_key_values.1.key') as Float32Array)[50 * 32] = Number.NaN;
  cache.update({ ...broken } as never);
  await rejects(t, 'NOT_FINITE', () => cache.settle());
  await cache.dispose();
  t.is(cache.get_seq_length(), 0);
});

test.serial('50 rounds of everything leave nothing behind on a GPU, and no more bytes than the first', async (t) => {
  const model = { ...SMALL, gpu: true, hybrid: true };
  const sizes: number[] = [];
  using cache = new GearDynamicCache({ preset: 'gear-4' });
  for (let round = 0; round < 50; round++) {
    const prompt = promptOf(80, round % 5);
    cache.keepPrefixOf(prompt);
    const ids = await generate(model, { inputIds: prompt, cache, newTokens: 3 });
    // Half of the rounds go on while the tensors are still on the GPU.
    if (round % 2 === 0) await generate(model, { inputIds: ids, cache, newTokens: 2 });
    await cache.settle();
    using frozen = await cache.freeze();
    await thawCache(frozen, classes);
    const plain = new DynamicCache();
    await generate(model, { inputIds: prompt, cache: plain, newTokens: 2 });
    using other = await freezeCache(plain);
    sizes.push(frozen.byteLength + other.byteLength);
    t.is(OrtTensor.onGpu, 0, `round ${round}`);
  }
  for (const [round, size] of sizes.entries()) t.is(size, sizes[round % 10] ?? 0, `round ${round}`);
  await cache.dispose();
  t.is(OrtTensor.onGpu, 0);
});
