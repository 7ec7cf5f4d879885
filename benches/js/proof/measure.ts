// The proof's two halves, the same in Node and in a browser: what a process does that has seen the prompt, and what one does that has only the files.

import { type FrozenPrefix, freezeCache, thawCache } from 'gear-kv/transformers';
import type { Frozen, Plan, Seen, Thawed } from './plan.js';

interface Tensor {
  readonly dims: readonly number[];
  readonly data: unknown;
}

interface Cache {
  get_seq_length(): number;
  dispose(): Promise<void>;
}

interface Model {
  generate(options: object): Promise<Tensor & { sequences: Tensor; past_key_values: Cache }>;
}

/** The part of transformers.js that is used here. */
export interface Transformers {
  env: {
    allowRemoteModels: boolean;
    allowLocalModels: boolean;
    localModelPath: string;
    useBrowserCache: boolean;
    backends: { onnx: { wasm: { wasmPaths?: string; numThreads?: number } } };
  };
  Tensor: new (type: string, data: unknown, dims: number[]) => Tensor;
  DynamicCache: new (entries?: Record<string, Tensor>) => Cache;
  AutoModelForCausalLM: { from_pretrained(name: string, options: object): Promise<Model> };
}

/** Where it happens. */
export interface Place {
  readonly library: Transformers;
  readonly model: Model;
  /** Keeps it where the next process finds it. Returns the bytes that it takes there. */
  save(name: string, frozen: FrozenPrefix): Promise<number>;
  load(name: string): Promise<FrozenPrefix>;
}

const MODEL = 'SmolLM2-135M-Instruct';

/** One thread: the targets are those of one thread, and on two cores ONNX Runtime is slower with two. */
export function loadModel(library: Transformers, name: string, device: string): Promise<Model> {
  const session_options = { intraOpNumThreads: 1, interOpNumThreads: 1 };
  return library.AutoModelForCausalLM.from_pretrained(name, { dtype: 'fp32', device, session_options });
}

/** Computes the prompt, says how long that takes, and saves its cache under every preset. */
export async function see(place: Place, plan: Plan): Promise<Seen> {
  const { prompt, cached, answerTokens, recomputeRounds } = plan;
  await generated(place, prompt.slice(0, 16), { max_new_tokens: 2 });
  const started = performance.now();
  let recomputeMs = Number.POSITIVE_INFINITY;
  // Told of the prompt first, and then of each token.
  const put = (ids: unknown[]) => {
    if (ids.flat().length === 1) recomputeMs = Math.min(recomputeMs, performance.now() - started);
  };
  const streamer = { put, end: () => {} };
  const answer = idsOf(await generated(place, prompt, { max_new_tokens: answerTokens, streamer })).slice(prompt.length);
  for (let round = 1; round < recomputeRounds; round++) {
    recomputeMs = Math.min(recomputeMs, (await timed(() => generated(place, prompt, { max_new_tokens: 1 }))).ms);
  }
  const first = prompt.slice(0, cached);
  const { sequences, past_key_values } = await generated(place, first, {
    max_new_tokens: 1,
    return_dict_in_generate: true,
  });
  const frozen: Frozen[] = [];
  for (const { name, preset, bitsPerElement } of plan.kinds) {
    const { result, ms } = await timed(async () => {
      const live = await freezeCache(past_key_values, { tokenIds: sequences, model: MODEL, preset });
      if (bitsPerElement === undefined) return live;
      const atRest = await live.freeze({ bitsPerElement });
      live.dispose();
      return atRest;
    });
    const saving = await timed(() => place.save(name, result));
    const { tokens, cache } = result;
    frozen.push({
      name,
      tokens,
      bytes: saving.result,
      float16Bytes: cache.float16ByteLength,
      freezeMs: ms,
      saveMs: saving.ms,
    });
    result.dispose();
  }
  await past_key_values.dispose();
  return { recomputeMs, answer, frozen };
}

/** Goes on from what was saved. */
export async function goOn(place: Place, plan: Plan): Promise<Thawed[]> {
  const { prompt, answerTokens, rounds } = plan;
  await generated(place, prompt.slice(0, 16), { max_new_tokens: 2 });
  const thawed: Thawed[] = [];
  for (const { name } of plan.kinds) {
    const times: { loadMs: number; thawMs: number; firstTokenMs: number }[] = [];
    for (let round = 0; round < rounds + 1; round++) {
      const started = performance.now();
      const loading = await timed(() => place.load(name));
      const thawing = await timed(() => thaw(place, loading.result, plan));
      await generated(place, prompt, { max_new_tokens: 1, past_key_values: thawing.result });
      times.push({ loadMs: loading.ms, thawMs: thawing.ms, firstTokenMs: performance.now() - started });
      loading.result.dispose();
    }
    const frozen = await place.load(name);
    const past_key_values = await thaw(place, frozen, plan);
    const tokens = past_key_values.get_seq_length();
    const answer = idsOf(await generated(place, prompt, { max_new_tokens: answerTokens, past_key_values })).slice(
      prompt.length,
    );
    frozen.dispose();
    // The first round is of a cold file and of code that was never run.
    const best = times.slice(1).sort((a, b) => a.firstTokenMs - b.firstTokenMs)[0] ?? {
      loadMs: 0,
      thawMs: 0,
      firstTokenMs: 0,
    };
    thawed.push({ name, tokens, answer, ...best });
  }
  return thawed;
}

function thaw({ library }: Place, frozen: FrozenPrefix, { prompt }: Plan): Promise<Cache> {
  const { DynamicCache, Tensor } = library;
  return thawCache(frozen, { DynamicCache, Tensor, inputIds: prompt, model: MODEL });
}

function generated({ library: { Tensor }, model }: Place, ids: readonly number[], options: object) {
  const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
  // No end of sequence: every answer has as many tokens as was asked for.
  return model.generate({ input_ids, attention_mask, do_sample: false, eos_token_id: null, ...options });
}

async function timed<Result>(work: () => Promise<Result>): Promise<{ result: Result; ms: number }> {
  const started = performance.now();
  const result = await work();
  return { result, ms: performance.now() - started };
}

function idsOf({ data }: Tensor): number[] {
  return Array.from(data as BigInt64Array, Number);
}
