import test from 'ava';
import { freezeTensors, init, loadFrozen, thawTensors } from 'gear-kv/ort';
import { OrtTensor, promptOf, SMALL, step, type Tensor } from './fake-model.js';
import { rejects, sameBits } from './support.js';

await init();

/** What a session of onnxruntime gives: its own tensors, and logits beside them. */
async function outputsOf(ids: number[], model = SMALL): Promise<Record<string, OrtTensor>> {
  const outputs = Object.entries(await step(model, {}, ids)).map(([name, { ort_tensor }]) => [name, ort_tensor]);
  return { logits: new OrtTensor('float32', new Float32Array(8), [1, 1, 8]), ...Object.fromEntries(outputs) };
}

test('outputs of a session become feeds of the next', async (t) => {
  const ids = promptOf(100);
  for (const type of ['float32', 'float16'] as const) {
    const outputs = await outputsOf(ids, { ...SMALL, type });
    using frozen = await freezeTensors(outputs, { tokenIds: ids, preset: 'float32' });
    const feeds = await thawTensors(frozen, { Tensor: OrtTensor });
    t.is(Object.keys(feeds).length, 6);
    for (const [name, tensor] of Object.entries(feeds)) {
      const was = outputs[name.replace('past_key_values', 'present')] as OrtTensor;
      t.true(tensor instanceof OrtTensor);
      t.deepEqual([tensor.type, tensor.dims], [was.type, was.dims]);
      t.true(sameBits(tensor.data, was.data), `${type} ${name}`);
    }
    const shorter = await thawTensors(frozen, { Tensor: OrtTensor, inputIds: [...ids.slice(0, 40), 1, 2] });
    t.is(shorter['past_key_values.0.key']?.dims[2], 40);
  }
});

test('what was saved loads again, compressed and at rest, from bytes and from a stream', async (t) => {
  const ids = promptOf(100);
  using frozen = await freezeTensors(await outputsOf(ids, { ...SMALL, hybrid: true }), {
    tokenIds: ids,
    model: 'fake',
    metadata: { chat: 7 },
  });
  using atRest = await frozen.freeze();
  for (const made of [frozen, atRest]) {
    const bytes = made.toBytes();
    for (const source of [bytes, bytes.slice().buffer as ArrayBuffer, made.toStream()]) {
      using loaded = await loadFrozen(source);
      t.deepEqual(loaded.about, made.about);
      t.is(loaded.about.metadata?.['chat'], 7);
      const [now, before] = [
        await thawTensors(loaded, { Tensor: OrtTensor }),
        await thawTensors(made, { Tensor: OrtTensor }),
      ];
      t.deepEqual(Object.keys(now), Object.keys(before));
      for (const [name, tensor] of Object.entries(now))
        t.true(sameBits(tensor.data, (before[name] as OrtTensor).data), name);
    }
  }
  await rejects(t, 'CORRUPT_DATA', () => loadFrozen(new Uint8Array(100)));
  using bare = await freezeTensors(await outputsOf(ids));
  await rejects(t, 'CORRUPT_DATA', () => loadFrozen(bare.cache.toBytes()), /what its 3 layers are called/);
});

test('names that are none of a model are refused: they would become properties of a cache', async (t) => {
  using frozen = await freezeTensors(await outputsOf(promptOf(20)), { tokenIds: promptOf(20) });
  const note = frozen.about.metadata?.['gear-kv.entries'] as { layers: string[] };
  const array = { dtype: 'F32', shape: [1], data: new Uint8Array(4) };
  for (const about of [
    { ...frozen.about, arrays: { update: array } },
    { ...frozen.about, metadata: { 'gear-kv.entries': { ...note, layers: ['past_0', 'past_1', '__proto__'] } } },
    { ...frozen.about, metadata: { 'gear-kv.entries': { ...note, layers: ['past_0', 'past_0', 'past_1'] } } },
    { ...frozen.about, metadata: { 'gear-kv.entries': { ...note, type: 'int8' } } },
    { ...frozen.about, metadata: { 'gear-kv.entries': 7 } },
  ]) {
    await rejects(t, 'CORRUPT_DATA', () => loadFrozen(frozen.cache.toBytes(about)));
  }
});

test('tensors of transformers.js are taken, too, and what is none is refused', async (t) => {
  const ids = promptOf(20);
  const wrapped: Record<string, Tensor> = await step(SMALL, {}, ids);
  using frozen = await freezeTensors(wrapped, { tokenIds: ids });
  t.is(frozen.tokens, 20);
  await rejects(
    t,
    'SHAPE_MISMATCH',
    () => freezeTensors({ logits: new OrtTensor('float32', new Float32Array(1), [1]) }),
    /no entries/,
  );
  await rejects(t, 'INVALID_OPTION', () => thawTensors(frozen, {} as never), /Tensor is missing/);
});
