import test from 'ava';
import { freezeCache, GearDynamicCache, type GearDynamicCacheOptions, init, thawCache } from 'gear-kv/transformers';
import {
  attentionLayers,
  DynamicCache,
  generate,
  numbersIn,
  OrtTensor,
  promptOf,
  rowOf,
  SMALL,
  Tensor,
  talked,
} from './fake-model.js';
import { rejects, sameBits } from './support.js';

await init();

const classes = { DynamicCache, Tensor };
const lossless = { preset: 'float32' } as const;

const dimsIn = (cache: object, name: string) => (cache as Record<string, Tensor>)[name]?.dims;

test('what is frozen without loss thaws to the same tensors, in float32 and in float16', async (t) => {
  for (const type of ['float32', 'float16'] as const) {
    const model = { ...SMALL, type };
    const { cache, ids } = await talked(model, 70);
    using frozen = await freezeCache(cache, { tokenIds: ids, model: 'fake', ...lossless });
    t.is(frozen.tokens, 72);
    t.deepEqual([...(frozen.tokenIds ?? [])], ids.slice(0, 72));
    const thawed = await thawCache(frozen, classes);
    t.is(thawed.get_seq_length(), 72);
    t.deepEqual(Object.keys(thawed), Object.keys(cache));
    for (const name of Object.keys(cache)) {
      t.true(sameBits(numbersIn(thawed, name), numbersIn(cache, name)), `${type} ${name}`);
      t.is((thawed[name] as Tensor).type, type);
    }
  }
});

test('a preset keeps a fraction of the bytes, and its cache goes on where it stopped', async (t) => {
  const { cache, ids } = await talked(SMALL, 700);
  using frozen = await freezeCache(cache, { tokenIds: ids, preset: 'gear-4' });
  const float32 = attentionLayers(SMALL).length * 2 * SMALL.heads * SMALL.headDim * 702 * 4;
  t.true(frozen.byteLength < float32 * 0.16, `${frozen.byteLength} of ${float32}`);
  const inputIds = [...ids, ...promptOf(9, 2)];
  const thawed = await thawCache(frozen, { ...classes, inputIds });
  t.is(thawed.get_seq_length(), 702);
  const answer = await generate(SMALL, { inputIds, cache: thawed, newTokens: 2 });
  t.is(thawed.get_seq_length(), answer.length - 1);
});

test('a prompt uses the tokens that it shares with the cache, and computes at least its last one', async (t) => {
  const { cache, ids } = await talked(SMALL, 80);
  using frozen = await freezeCache(cache, { tokenIds: ids, ...lossless });
  const uncached = async (inputIds: number[]) => generate(SMALL, { inputIds, cache: new DynamicCache(), newTokens: 5 });
  const other = [...ids.slice(0, 50), ...promptOf(20, 9)];
  for (const [inputIds, kept] of [
    [[...ids, 7, 8], 82],
    [other, 50],
    [ids.slice(0, 82), 81],
    [ids.slice(0, 30), 29],
  ] as const) {
    const thawed = await thawCache(frozen, { ...classes, inputIds });
    t.is(thawed.get_seq_length(), kept);
    t.deepEqual(await generate(SMALL, { inputIds, cache: thawed, newTokens: 5 }), await uncached([...inputIds]));
  }
});

test('a prompt that begins otherwise, or another model, is refused', async (t) => {
  const { cache, ids } = await talked(SMALL, 40);
  using frozen = await freezeCache(cache, { tokenIds: ids, model: 'one' });
  const thawing = (options: object) => () => thawCache(frozen, { ...classes, ...options });
  await rejects(t, 'MODEL_MISMATCH', thawing({ inputIds: [(ids[0] ?? 0) + 1, ...ids] }), /share nothing/);
  await rejects(t, 'MODEL_MISMATCH', thawing({ inputIds: ids.slice(0, 1) }), /at least one/);
  await rejects(t, 'MODEL_MISMATCH', thawing({ model: 'two' }), /made by 'one'.*'two'/);
  t.is((await thawCache(frozen, { ...classes, model: 'one' })).get_seq_length(), 42);
  using unnamed = await freezeCache(cache);
  await rejects(t, 'MODEL_MISMATCH', () => thawCache(unnamed, { ...classes, inputIds: ids }), /tokenIds/);
  await rejects(t, 'MODEL_MISMATCH', () => thawCache(unnamed, { ...classes, model: 'one' }), /no name/);
});

test('token ids come as numbers, big integers or a tensor, and must be those of the cache', async (t) => {
  const { cache, ids } = await talked(SMALL, 20);
  const big = BigInt64Array.from(ids, BigInt);
  for (const tokenIds of [ids, Uint32Array.from(ids), [...big], big, { dims: [1, big.length], data: big }]) {
    using frozen = await freezeCache(cache, { tokenIds });
    t.deepEqual([...(frozen.tokenIds ?? [])], ids.slice(0, 22));
  }
  await rejects(t, 'SHAPE_MISMATCH', () => freezeCache(cache, { tokenIds: ids.slice(0, 21) }), /21 ids.*22 tokens/);
  await rejects(t, 'INVALID_OPTION', () => freezeCache(cache, { tokenIds: [1.5] }), /tokenIds\[0\] is 1.5/);
  await rejects(
    t,
    'INVALID_OPTION',
    () => freezeCache(cache, { tokenIds: { dims: [2, 2], data: [1, 2, 3, 4] } }),
    /one sequence/,
  );
  await rejects(t, 'INVALID_OPTION', () => freezeCache(cache, { tokenIds: 'ids' as never }), /expected token ids/);
});

test('what is no cache is refused, and so are classes that are missing', async (t) => {
  await rejects(t, 'SHAPE_MISMATCH', () => freezeCache({}), /no keys and values/);
  await rejects(t, 'SHAPE_MISMATCH', () => freezeCache({ 'past_key_values.0.key': 3 }), /past_key_values.0.key is 3/);
  const integers = new Tensor('int64', new BigInt64Array(4), [1, 1, 2, 2]);
  await rejects(t, 'SHAPE_MISMATCH', () =>
    freezeCache({ 'past_key_values.0.key': integers, 'past_key_values.0.value': integers }),
  );
  const { cache } = await talked(SMALL, 20);
  using frozen = await freezeCache(cache);
  await rejects(t, 'INVALID_OPTION', () => thawCache(frozen, {} as never), /DynamicCache/);
  await rejects(t, 'INVALID_OPTION', () => freezeCache(cache, { preset: 'gear-5' as never }));
  await rejects(t, 'INVALID_OPTION', () => freezeCache(cache, { model: 7 as never }));
  (numbersIn(cache, 'past_key_values.1.key') as Float32Array)[5] = Number.NaN;
  await rejects(t, 'NOT_FINITE', () => freezeCache(cache));
});

test('a signal stops freezing and thawing', async (t) => {
  const { cache } = await talked(SMALL, 20);
  const reason = new Error('enough');
  const stopped = AbortSignal.abort(reason);
  t.is(await t.throwsAsync(freezeCache(cache, { signal: stopped })), reason);
  using frozen = await freezeCache(cache);
  t.is(await t.throwsAsync(thawCache(frozen, { ...classes, signal: stopped })), reason);
  const late = new AbortController();
  const freezing = freezeCache(cache, { signal: late.signal });
  late.abort(reason);
  t.is(await t.throwsAsync(freezing), reason);
});

test('what the model keeps beside keys and values travels along untouched', async (t) => {
  const model = { ...SMALL, hybrid: true };
  const { cache, ids } = await talked(model, 60);
  using frozen = await freezeCache(cache, { tokenIds: ids, preset: 'gear-2' });
  t.deepEqual(Object.keys(frozen.about.arrays ?? {}).sort(), ['past_conv.1', 'past_recurrent.1']);
  const thawed = await thawCache(frozen, { ...classes, inputIds: [...ids, 3] });
  for (const name of ['past_conv.1', 'past_recurrent.1']) {
    t.true(sameBits(numbersIn(thawed, name), numbersIn(cache, name)), name);
    t.deepEqual(dimsIn(thawed, name), dimsIn(cache, name));
    t.is((thawed[name] as Tensor).type, (cache[name] as Tensor).type);
  }
  // A state is what all tokens led to: there is none of fewer tokens.
  await rejects(t, 'MODEL_MISMATCH', () => thawCache(frozen, { ...classes, inputIds: ids.slice(0, 30) }), /states/);
});

test("an encoder's keys and values travel along, and so do layers of another shape, which are cut with the rest", async (t) => {
  const { cache: made, ids } = await talked(SMALL, 30);
  const entries: Record<string, Tensor> = {};
  for (const [name, tensor] of Object.entries(made)) {
    entries[name.replace(/\.(key|value)$/, '.decoder.$1')] = tensor as Tensor;
  }
  const encoder = Float32Array.from({ length: 2 * 7 * 32 }, (_, index) => index);
  entries['past_key_values.0.encoder.key'] = new Tensor('float32', encoder, [1, 2, 7, 32]);
  const wide = Float32Array.from({ length: 32 * 64 }, (_, index) => index);
  for (const half of ['key', 'value'])
    entries[`past_key_values.9.${half}`] = new Tensor('float32', wide, [1, 1, 32, 64]);
  using frozen = await freezeCache(new DynamicCache(entries), { tokenIds: ids, ...lossless });
  t.is(frozen.cache.layers, 3);
  const whole = await thawCache(frozen, classes);
  t.deepEqual(Object.keys(whole).sort(), Object.keys(entries).sort());
  for (const name of Object.keys(entries)) t.true(sameBits(numbersIn(whole, name), numbersIn(entries, name)), name);
  const cut = await thawCache(frozen, { ...classes, inputIds: [...ids.slice(0, 10), 1, 2] });
  t.deepEqual(dimsIn(cut, 'past_key_values.0.decoder.key'), [1, 2, 10, 32]);
  t.true(sameBits(numbersIn(cut, 'past_key_values.0.encoder.key'), encoder));
  t.deepEqual(dimsIn(cut, 'past_key_values.9.value'), [1, 1, 10, 64]);
  t.true(sameBits(numbersIn(cut, 'past_key_values.9.value'), wide.slice(0, 640)));
});

test('a batch is frozen and thawed as a whole, and no prompt is compared with it', async (t) => {
  const entries: Record<string, Tensor> = {};
  for (const name of ['past_key_values.0.key', 'past_key_values.0.value']) {
    const data = Float32Array.from({ length: 3 * 2 * 40 * 32 }, (_, index) => Math.sin(index * name.length));
    entries[name] = new Tensor('float32', data, [3, 2, 40, 32]);
  }
  using frozen = await freezeCache(new DynamicCache(entries), lossless);
  t.deepEqual([frozen.cache.batch, frozen.tokens], [3, 40]);
  const thawed = await thawCache(frozen, classes);
  for (const name of Object.keys(entries)) {
    t.true(sameBits(numbersIn(thawed, name), numbersIn(entries, name)), name);
    t.deepEqual(dimsIn(thawed, name), [3, 2, 40, 32]);
  }
  const tokenIds = promptOf(40);
  await rejects(t, 'INVALID_OPTION', () => freezeCache(new DynamicCache(entries), { tokenIds }), /batch of 3/);
  await rejects(t, 'MODEL_MISMATCH', () => thawCache(frozen, { ...classes, inputIds: tokenIds }));
});

test('a longer conversation extends what was frozen: its tokens stay as they are, only new ones are compressed', async (t) => {
  const { cache, ids } = await talked(SMALL, 300);
  using first = await freezeCache(cache, { tokenIds: ids, model: 'fake', preset: 'gear-3' });
  const longer = await generate(SMALL, { inputIds: [...ids, ...promptOf(90, 4)], cache, newTokens: 2 });
  using second = await freezeCache(cache, { tokenIds: longer, model: 'fake', extend: first });
  t.is(second.tokens, longer.length - 1);
  t.is(first.tokens, 302);
  const before = await thawCache(first, classes);
  const after = await thawCache(second, { ...classes, inputIds: longer.slice(0, 303) });
  for (const name of Object.keys(before)) t.true(sameBits(numbersIn(after, name), numbersIn(before, name)), name);
  // Where the conversations part, so do the caches.
  const branch = [...ids.slice(0, 200), ...promptOf(40, 5)];
  const other = new DynamicCache();
  const told = await generate(SMALL, { inputIds: branch, cache: other, newTokens: 1 });
  using third = await freezeCache(other, { tokenIds: told, model: 'fake', extend: first });
  t.deepEqual([...(third.tokenIds ?? [])], branch);
  const shared = await thawCache(third, { ...classes, inputIds: branch.slice(0, 201) });
  const cut = await thawCache(first, { ...classes, inputIds: branch.slice(0, 201) });
  for (const name of Object.keys(cut)) t.true(sameBits(numbersIn(shared, name), numbersIn(cut, name)), name);
});

test('what does not belong together is not extended', async (t) => {
  const { cache, ids } = await talked(SMALL, 40);
  using frozen = await freezeCache(cache, { tokenIds: ids, model: 'one' });
  const extending =
    (options: object, from: object = cache) =>
    () =>
      freezeCache(from, { tokenIds: ids, model: 'one', extend: frozen, ...options });
  await rejects(t, 'MODEL_MISMATCH', extending({ model: 'two' }));
  await rejects(t, 'INVALID_OPTION', extending({ preset: 'gear-4' }), /preset is given with extend/);
  const { cache: larger } = await talked({ ...SMALL, layers: 4 }, 40);
  await rejects(t, 'MODEL_MISMATCH', extending({}, larger), /4 layers/);
  const { tokenIds: _, ...unknown } = { tokenIds: ids, model: 'one', extend: frozen };
  await rejects(t, 'MODEL_MISMATCH', () => freezeCache(cache, unknown), /token ids on both sides/);
  using atRest = await frozen.freeze();
  await rejects(t, 'INVALID_OPTION', extending({ extend: atRest }), /at rest/);
});

test('at rest a prefix is smaller again, and thaws to about the same', async (t) => {
  const { cache, ids } = await talked(SMALL, 500);
  using frozen = await freezeCache(cache, { tokenIds: ids, model: 'fake', preset: 'uniform-8' });
  using atRest = await frozen.freeze({ bitsPerElement: 3 });
  t.true(atRest.byteLength < frozen.byteLength * 0.6);
  t.deepEqual([atRest.model, atRest.tokens, atRest.tokenIds], [frozen.model, frozen.tokens, frozen.tokenIds]);
  const thawed = await thawCache(atRest, { ...classes, inputIds: [...ids.slice(0, 100), 0] });
  t.deepEqual(dimsIn(thawed, 'past_key_values.2.value'), [1, 2, 100, 32]);
  const [got, was] = [numbersIn(thawed, 'past_key_values.0.value'), numbersIn(cache, 'past_key_values.0.value')];
  let [error, size] = [0, 0];
  for (let index = 0; index < 100 * 32; index++) {
    error += ((got[index] ?? 0) - (was[index] ?? 0)) ** 2;
    size += (was[index] ?? 0) ** 2;
  }
  t.true(error < 0.1 * size, `${error} of ${size}`);
  await rejects(t, 'INVALID_OPTION', () => atRest.freeze(), /at rest/);
  await rejects(t, 'INVALID_OPTION', () => frozen.thaw(), /not at rest/);
  using back = await atRest.thaw({ preset: 'gear-4' });
  using going = new GearDynamicCache({ from: back, Tensor } as GearDynamicCacheOptions);
  t.is(going.keepPrefixOf([...ids, 1]), frozen.tokens);
  t.is((await generate(SMALL, { inputIds: [...ids, 1], cache: going, newTokens: 2 })).length, ids.length + 3);
});

test.serial('tensors on a GPU are fetched, and their memory there is given back', async (t) => {
  const { cache, ids } = await talked({ ...SMALL, gpu: true }, 50);
  const { cache: reference } = await talked(SMALL, 50);
  t.is(OrtTensor.onGpu, 6);
  using frozen = await freezeCache(cache, { tokenIds: ids, ...lossless });
  t.is(OrtTensor.onGpu, 0);
  const thawed = await thawCache(frozen, classes);
  for (const name of Object.keys(reference))
    t.true(sameBits(numbersIn(thawed, name), numbersIn(reference, name)), name);
  const lost = OrtTensor.gpu('float32', new Float32Array(4), [1, 1, 1, 4]);
  lost.dispose();
  const entries = { 'past_key_values.0.key': new Tensor(lost), 'past_key_values.0.value': new Tensor(lost) };
  await rejects(t, 'IO_FAILED', () => freezeCache(entries), /past_key_values|key.*none/);
});

test('rows of the fake model are its own: positions and tokens differ', (t) => {
  t.false(sameBits(rowOf(SMALL, 0, 0, 1, 5), rowOf(SMALL, 0, 0, 2, 5)));
  t.false(sameBits(rowOf(SMALL, 0, 0, 1, 5), rowOf(SMALL, 0, 0, 1, 6)));
});
