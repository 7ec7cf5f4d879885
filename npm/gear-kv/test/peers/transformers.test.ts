// The adapter on transformers.js itself and on ONNX Runtime itself.

import { join } from 'node:path';
import test from 'ava';
import { freezeTensors, thawTensors } from 'gear-kv/ort';
import { type FreezeCacheOptions, freezeCache, GearDynamicCache, thawCache } from 'gear-kv/transformers';
import { promptOf, testWith, tinyModelFolder } from './tiny.js';

interface Tensor {
  readonly type: string;
  readonly dims: number[];
  readonly data: Float32Array;
}

interface Cache {
  get_seq_length(): number;
}

interface Model {
  generate(options: object): Promise<Tensor & { sequences: Tensor; past_key_values: Cache }>;
  dispose(): Promise<void>;
}

/** The part of transformers.js that is used here. */
interface Transformers {
  env: { allowRemoteModels: boolean; localModelPath: string };
  Tensor: new (type: string, data: unknown, dims: number[]) => Tensor;
  DynamicCache: new (entries?: Record<string, Tensor>) => Cache;
  AutoModelForCausalLM: { from_pretrained(path: string, options: object): Promise<Model> };
  pipeline(task: string, path: string, options: object): Promise<Pipeline>;
}

interface Pipeline {
  (text: string, options: object): Promise<{ generated_text: string }[]>;
  dispose(): Promise<void>;
}

interface OnnxRuntime {
  Tensor: new (type: string, data: unknown, dims: number[]) => Tensor;
  InferenceSession: { create(path: string, options: object): Promise<Session> };
}

interface Session {
  run(feeds: object): Promise<Record<string, Tensor>>;
  release(): Promise<void>;
}

const ONE_THREAD = { intraOpNumThreads: 1, interOpNumThreads: 1 };
const folder = tinyModelFolder();
test.after.always(() => folder.remove());

const onTransformers = testWith<Transformers>('@huggingface/transformers');
const onOnnxRuntime = testWith<OnnxRuntime>('onnxruntime-node');

function tiny({ env, AutoModelForCausalLM }: Transformers, dtype: 'fp32' | 'fp16'): Promise<Model> {
  env.allowRemoteModels = false;
  return AutoModelForCausalLM.from_pretrained(folder.path, { dtype, device: 'cpu', session_options: ONE_THREAD });
}

/** Inputs of a prompt, as a tokenizer makes them. */
function inputsOf({ Tensor }: Transformers, ids: readonly number[]) {
  const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
  return { input_ids, attention_mask, do_sample: false };
}

const idsOf = ({ data }: Tensor): number[] => Array.from(data as unknown as BigInt64Array, Number);

for (const dtype of ['fp32', 'fp16'] as const) {
  onTransformers(`${dtype}: generate goes on from a thawed cache as from the tokens themselves`, async (t, library) => {
    const model = await tiny(library, dtype);
    const prompt = promptOf(90);
    const first = await model.generate({
      ...inputsOf(library, prompt),
      max_new_tokens: 4,
      return_dict_in_generate: true,
    });
    const seen = idsOf(first.sequences);
    using frozen = await freezeCache(first.past_key_values, { tokenIds: first.sequences, preset: 'float32' });
    t.is(frozen.tokens, 93);
    const longer = [...seen, ...promptOf(11, 5)];
    const uncached = idsOf(await model.generate({ ...inputsOf(library, longer), max_new_tokens: 12 }));
    const past = await thawCache(frozen, { ...library, inputIds: longer });
    t.true(past instanceof library.DynamicCache);
    const answer = await model.generate({ ...inputsOf(library, longer), max_new_tokens: 12, past_key_values: past });
    t.deepEqual(idsOf(answer), uncached);
    t.is(past.get_seq_length(), uncached.length - 1);
    // A prompt that parts with the cache in the middle uses what it shares.
    const branch = [...seen.slice(0, 40), ...promptOf(20, 9)];
    const shared = await thawCache(frozen, { ...library, inputIds: branch });
    t.is(shared.get_seq_length(), 40);
    t.deepEqual(
      idsOf(await model.generate({ ...inputsOf(library, branch), max_new_tokens: 6, past_key_values: shared })),
      idsOf(await model.generate({ ...inputsOf(library, branch), max_new_tokens: 6 })),
    );
    await model.dispose();
  });

  onTransformers(`${dtype}: a conversation on a GearDynamicCache`, async (t, library) => {
    const model = await tiny(library, dtype);
    const told = async (cache: GearDynamicCache | undefined) => {
      let ids = promptOf(70);
      const kept: number[] = [];
      for (const seed of [2, 3, 4]) {
        if (cache !== undefined) kept.push(cache.keepPrefixOf(ids));
        const past = cache === undefined ? {} : { past_key_values: cache };
        const sequences = await model.generate({ ...inputsOf(library, ids), max_new_tokens: 7, ...past });
        if (cache !== undefined) {
          cache.tokenIds = sequences;
          t.is(cache.get_seq_length(), (sequences.dims[1] as number) - 1);
        }
        ids = [...idsOf(sequences), ...promptOf(9, seed)];
      }
      return { ids, kept };
    };
    const { ids } = await told(undefined);
    using lossless = new GearDynamicCache({ preset: 'float32' });
    t.deepEqual(await told(lossless), { ids, kept: [0, 76, 92] });
    using compressed = new GearDynamicCache({ preset: 'gear-4' });
    t.deepEqual((await told(compressed)).kept, [0, 76, 92]);
    await compressed.settle();
    await lossless.settle();
    t.true(compressed.byteLength < lossless.byteLength / 3, `${compressed.byteLength} of ${lossless.byteLength}`);
    await model.dispose();
  });
}

onTransformers('a pipeline takes a GearDynamicCache', async (t, library) => {
  library.env.allowRemoteModels = false;
  const generator = await library.pipeline('text-generation', folder.path, {
    dtype: 'fp32',
    device: 'cpu',
    session_options: ONE_THREAD,
  });
  const options = { max_new_tokens: 5, do_sample: false };
  const [uncached] = await generator('w3 w9 w27 w5 w12', options);
  using cache = new GearDynamicCache({ preset: 'float32' });
  t.deepEqual(await generator('w3 w9 w27 w5 w12', { ...options, past_key_values: cache }), [uncached]);
  await cache.settle();
  t.is(cache.get_seq_length(), 9);
  const more = `${uncached?.generated_text} w1 w2`;
  t.deepEqual(await generator(more, { ...options, past_key_values: cache }), await generator(more, options));
  await generator.dispose();
});

onOnnxRuntime('a session of ONNX Runtime goes on from thawed tensors', async (t, { Tensor, InferenceSession }) => {
  for (const file of ['model.onnx', 'model_fp16.onnx']) {
    const session = await InferenceSession.create(join(folder.path, 'onnx', file), ONE_THREAD);
    const type = file === 'model.onnx' ? 'float32' : 'float16';
    const run = (ids: number[], past: Record<string, Tensor>) => {
      const held = past['past_key_values.0.key']?.dims[2] ?? 0;
      return session.run({
        input_ids: new Tensor('int64', BigInt64Array.from(ids.slice(held), BigInt), [1, ids.length - held]),
        attention_mask: new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
        ...past,
      });
    };
    const numbers = type === 'float32' ? new Float32Array(0) : new Uint16Array(0);
    const empty = Object.fromEntries(
      [0, 1].flatMap((layer) =>
        ['key', 'value'].map((half) => [`past_key_values.${layer}.${half}`, new Tensor(type, numbers, [1, 2, 0, 16])]),
      ),
    );
    const ids = promptOf(60);
    const options: FreezeCacheOptions = { tokenIds: ids, preset: 'float32' };
    using frozen = await freezeTensors(await run(ids, empty), options);
    const longer = [...ids, ...promptOf(8, 3)];
    const feeds = await thawTensors(frozen, { Tensor, inputIds: longer });
    const [cached, computed] = [await run(longer, feeds), await run(longer, empty)];
    for (const half of ['key', 'value']) {
      t.deepEqual(cached[`present.1.${half}`]?.dims, computed[`present.1.${half}`]?.dims);
      t.deepEqual(cached[`present.0.${half}`]?.data, computed[`present.0.${half}`]?.data, `${file} ${half}`);
    }
    await session.release();
  }
});
