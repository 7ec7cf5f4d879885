import { GearModel } from 'gear-kv/llm';
import { type Row, resident, type Task } from './rows.js';
import { promptOf } from './text.js';

/** Takes a prompt in, then decodes greedily, on our engine. */
export async function runGear({ cache, model: path, context, decode, threads }: Task): Promise<Row> {
  using model = await GearModel.load(path, { cache: { preset: cache as 'gear-4', threads } });
  const prompt = promptOf(
    context,
    (text) => model.tokenize(text, { addBos: false }),
    (ids) => model.detokenize(ids),
  );
  const loaded = resident().now;
  using session = model.session();
  const started = performance.now();
  let first = 0;
  let held = 0;
  for await (const _ of session.generate(prompt, { maxTokens: decode, temperature: 0 })) {
    if (first === 0) {
      first = performance.now();
      held = session.tokens.length;
    }
  }
  const ended = performance.now();
  const { tokens, byteLength } = session.stats();
  return {
    engine: 'gear-kv',
    cache,
    context,
    prefillTokensPerSecond: (held / (first - started)) * 1000,
    decodeTokensPerSecond: ((tokens - held) / (ended - first)) * 1000,
    cacheBytes: byteLength,
    peakBytesOverModel: resident().peak - loaded,
    split: session.timings(),
  };
}
