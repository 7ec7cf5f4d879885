import test from 'ava';
import type { About } from 'gear-kv';
import { kvNumbers } from './numbers.js';
import { environment, gear, refuses, rejects, sameBits } from './support.js';

const numbers = kvNumbers({ heads: 2, tokens: 100, headDim: 32 });

function filled() {
  const cache = new gear.GearCache({ layers: 2, kvHeads: 2, headDim: 32 });
  for (const layer of [0, 1]) cache.append(layer, numbers, numbers);
  return cache;
}

const about = {
  model: 'SmolLM2-135M · Q4_1',
  tokenIds: Uint32Array.of(1, 49_151, 0xffff_ffff),
  metadata: { turns: [1, { ü: null, __proto__: 2 }], temperature: 0.1 },
  arrays: {
    'past_conv.0': { dtype: 'F16', shape: [1, 3], data: Uint8Array.of(1, 2, 3, 4, 5, 6) },
    empty: { dtype: 'I64', shape: [0], data: new Uint8Array() },
    scalar: { dtype: 'U8', shape: [], data: Uint8Array.of(7) },
  },
} satisfies About;

test('what is said of a cache comes back with it, by bytes and by stream', async (t) => {
  const cache = filled();
  t.is(cache.about, undefined);
  const bytes = cache.toBytes(about);
  const restored = [gear.GearCache.fromBytes(bytes), await gear.GearCache.fromStream(cache.toStream({ about }))];
  for (const again of restored) {
    t.deepEqual(again.about, about);
    t.true(Object.isFrozen(again.about));
    t.true(sameBits(again.key(1), cache.key(1)));
    t.true(sameBits(again.toBytes(again.about), bytes));
    t.true(sameBits(again.toBytes(), cache.toBytes()), 'not written again unless it is given');
    t.deepEqual(again.fork().about, about);
  }
  t.is(gear.GearCache.fromBytes(cache.toBytes()).about, undefined);
  t.is(gear.GearCache.fromBytes(cache.toBytes({})).about, undefined);
});

test('the same of a frozen cache', async (t) => {
  const frozen = await filled().freeze({ bitsPerElement: 4 });
  t.is(frozen.about, undefined);
  const bytes = frozen.toBytes(about);
  const restored = gear.FrozenCache.fromBytes(bytes);
  t.deepEqual(restored.about, about);
  t.true(sameBits(restored.toBytes(about), bytes));
  t.deepEqual((await gear.FrozenCache.fromStream(restored.toStream({ about }))).about, about);
});

test('it is written as it was at the time of the call', async (t) => {
  const cache = filled();
  const given = {
    tokenIds: Uint32Array.of(1, 2, 3),
    arrays: { a: { dtype: 'U8', shape: [1], data: Uint8Array.of(9) } },
  };
  const stream = cache.toStream({ about: given });
  given.tokenIds.fill(0);
  given.arrays.a.data.fill(0);
  const restored = await gear.GearCache.fromStream(stream);
  t.deepEqual(restored.about?.tokenIds, Uint32Array.of(1, 2, 3));
  t.deepEqual(restored.about?.arrays?.['a']?.data, Uint8Array.of(9));
});

test('readAbout reads what a file says, without the cache', async (t) => {
  const bytes = filled().toBytes(about);
  const { arrays, ...said } = about;
  const expected = {
    ...said,
    kind: 'cache',
    layers: 2,
    batch: 1,
    kvHeads: 2,
    headDim: 32,
    tokens: 100,
    byteLength: bytes.length,
    arrays: Object.fromEntries(Object.entries(arrays).map(([name, { dtype, shape }]) => [name, { dtype, shape }])),
  };
  for (const source of [bytes, bytes.slice().buffer, new Blob([bytes.slice()])]) {
    t.deepEqual(await gear.readAbout(source), expected as gear.AboutFile);
  }
  // Damage behind what is read is not its business, and missing bytes neither.
  t.deepEqual(await gear.readAbout(bytes.subarray(0, bytes.length - 5000)), expected as gear.AboutFile);
  const frozen = await filled().freeze();
  const plain = await gear.readAbout(frozen.toBytes());
  t.deepEqual([plain.kind, plain.tokens, 'model' in plain, 'tokenIds' in plain], ['frozen', 100, false, false]);
});

test('readAbout refuses what is no cache', async (t) => {
  const bytes = filled().toBytes(about);
  for (const length of [0, 7, 23, 24, 500]) {
    await rejects(t, 'CORRUPT_DATA', () => gear.readAbout(bytes.subarray(0, length)));
  }
  const flipped = bytes.slice();
  flipped[100] = (flipped[100] ?? 0) ^ 1;
  await rejects(t, 'CORRUPT_DATA', () => gear.readAbout(flipped));
  const tensor = gear.compressSync(numbers, { shape: { heads: 2, tokens: 100, headDim: 32 }, role: 'key' });
  await rejects(t, 'INVALID_OPTION', () => gear.readAbout(tensor.toBytes()), /one tensor/);
  await rejects(t, 'SHAPE_MISMATCH', () => gear.readAbout(7 as never), /source/);
  await rejects(t, 'INVALID_OPTION', () => gear.readAbout(bytes, { bakend: 'wasm' } as never), /bakend/);
  if (environment.runtime === 'chromium') {
    await rejects(t, 'IO_FAILED', () => gear.readAbout('/chat.gear'));
  }
});

test('what cannot be said is refused before anything is written', (t) => {
  const cache = filled();
  const array = { dtype: 'U8', shape: [1], data: Uint8Array.of(1) };
  const deep: unknown = Array.from({ length: 70 }).reduce((inner) => [inner], 1);
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  const cases: [string, unknown, RegExp][] = [
    ['INVALID_OPTION', 7, /about is 7/],
    ['INVALID_OPTION', { modell: 'x' }, /modell/],
    ['INVALID_OPTION', { model: 7 }, /about.model is 7/],
    ['INVALID_OPTION', { model: '' }, /model/],
    ['INVALID_OPTION', { model: 'x'.repeat(1025) }, /1025/],
    ['INVALID_OPTION', { tokenIds: [1, 2] }, /Uint32Array/],
    ['INVALID_OPTION', { tokenIds: Int32Array.of(1) }, /Uint32Array/],
    ['INVALID_OPTION', { metadata: [] }, /about.metadata is an array/],
    ['INVALID_OPTION', { metadata: { big: 1n } }, /JSON/],
    ['INVALID_OPTION', { metadata: cyclic }, /JSON/],
    ['INVALID_OPTION', { metadata: { deep } }, /64/],
    ['INVALID_OPTION', { metadata: { long: 'x'.repeat(1 << 20) } }, /1048576/],
    ['INVALID_OPTION', { arrays: { '': array } }, /empty/],
    ['INVALID_OPTION', { arrays: { a: 7 } }, /arrays\['a'\]/],
    ['INVALID_OPTION', { arrays: { a: { ...array, dtype: 'U9' } } }, /U9/],
    ['INVALID_OPTION', { arrays: { a: { ...array, dtype: 8 } } }, /dtype/],
    ['INVALID_OPTION', { arrays: { a: { ...array, shape: [-1] } } }, /shape/],
    ['INVALID_OPTION', { arrays: { a: { ...array, shapes: [1] } } }, /shapes/],
    ['SHAPE_MISMATCH', { arrays: { a: { ...array, shape: [2] } } }, /2 bytes/],
    ['SHAPE_MISMATCH', { arrays: { a: { ...array, data: [1] } } }, /data/],
  ];
  for (const [code, given, message] of cases) {
    refuses(t, code, () => cache.toBytes(given as never), message);
    refuses(t, code, () => cache.toStream({ about: given as never }), message);
  }
  refuses(t, 'INVALID_OPTION', () => cache.toStream({ abuot: about } as never), /abuot/);
});
