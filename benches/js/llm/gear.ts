import { GearModel } from 'gear-kv/llm';
import { peakBytes, resetPeak, residentBytes } from '../../../npm/gear-kv/src/cli/llm/memory.js';
import { type Row, rowOf, type Split, type Task } from './rows.js';
import { promptsOf } from './text.js';

/** Takes prompts in, then decodes greedily, on our engine. */
export async function runGear(task: Task): Promise<Row> {
  const { cache, model: path, batch, context, decode, threads } = task;
  using model = await GearModel.load(path, { cache: { preset: cache as 'gear-4', threads } });
  const prompts = promptsOf(
    batch,
    context,
    (text) => model.tokenize(text, { addBos: false }),
    (ids) => model.detokenize(ids),
  );
  resetPeak();
  const loadedBytes = residentBytes();
  const generation = model.generateBatch(prompts, { maxTokens: decode, temperature: 0 });
  let prefilled: Split | undefined;
  for await (const _ of generation) {
    // Only the time counts.
    prefilled ??= generation.stats().timings;
  }
  const results = generation.results ?? [];
  const { byteLength: cacheBytes, timings } = generation.stats();
  // The first token of each comes with the prompt.
  const decoded = results.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  const prompt = results.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  return {
    ...rowOf(task),
    prefillTokensPerSecond: prompt / Math.max(...results.map(({ promptSeconds }) => promptSeconds)),
    decodeTokensPerSecond: decoded / Math.max(...results.map(({ decodeSeconds }) => decodeSeconds)),
    cacheBytes,
    loadedBytes,
    peakBytesOverModel: peakBytes() - loadedBytes,
    split: timings,
    ...(prefilled !== undefined && { decodeSplit: without(timings, prefilled) }),
  };
}

function without(all: Split, before: Split): Split {
  return {
    attention: all.attention - before.attention,
    compression: all.compression - before.compression,
    matmul: all.matmul - before.matmul,
    other: all.other - before.other,
  };
}
