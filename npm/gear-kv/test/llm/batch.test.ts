// Several answers at once.
import type { Message } from 'gear-kv/llm';
import { onEachEngine, refusesWith, rejectsWith } from './engines.js';
import { story } from './talking.js';

const asked = (content: string): Message[] => [{ role: 'user', content }];
const capital = asked('What is the capital of France? Answer with one word.');
const inputs = [capital, 'Once upon a time', asked(`${story.slice(0, 500)}\n\nWho climbed the steps?`), 'One, two,'];

onEachEngine('answers to a batch of ragged prompts are those to each alone', async (t, model) => {
  for (const cache of ['float16', 'gear-4'] as const) {
    const options = { maxTokens: 20, cache };
    const batch = model.generateBatch(inputs, options);
    t.is(batch.results, undefined);
    const texts = inputs.map(() => '');
    for await (const { index, text } of batch) texts[index] += text;
    for (const [index, input] of inputs.entries()) {
      const alone = model.generate(input, options);
      t.is(texts[index], await alone.text(), `${cache} ${index}`);
      const { tokens, reason, promptTokens, text } = alone.result ?? {};
      const result = batch.results?.[index];
      t.deepEqual(
        [result?.tokens, result?.reason, result?.promptTokens, result?.text],
        [tokens, reason, promptTokens, text],
      );
      t.true(result !== undefined && result.promptSeconds > 0 && result.decodeSeconds > 0);
    }
  }
});

onEachEngine('a batch counts its caches together, and its prompts as they are taken in', async (t, model) => {
  const seen: { done: number; total: number }[] = [];
  const batch = model.generateBatch([capital, story, 'x'], {
    maxTokens: 3,
    temperature: 1,
    cache: 'gear-2',
    onPrompt: (progress) => seen.push(progress),
  });
  t.is(batch.stats().tokens, 0);
  const active: number[] = [];
  for await (const _ of batch) active.push(batch.stats().active);
  const total = batch.results?.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
  t.deepEqual(seen.at(-1), { done: total, total });
  t.true(Math.max(...active) <= 3 && active.at(-1) === 0, String(active));
  const { sequences, tokens, byteLength, float16ByteLength, timings } = batch.stats();
  // The last token of an answer is in no cache.
  const answered = batch.results?.reduce((sum, result) => sum + result.tokens.length, 0) ?? 0;
  t.true(sequences === 3 && tokens <= (total ?? 0) + answered && tokens >= (total ?? 0) + answered - 3);
  t.true(byteLength < float16ByteLength && timings.attention > 0 && timings.matmul > 0);
});

onEachEngine('each answer of a batch draws with a seed of its own', async (t, model) => {
  const options = { maxTokens: 8, temperature: 1.5 };
  const texts = await model.generateBatch(['Once upon a time', 'Once upon a time'], { ...options, seed: 7 }).texts();
  t.not(texts[0], texts[1]);
  t.is(texts[1], await model.generate('Once upon a time', { ...options, seed: 8 }).text());
});

onEachEngine('an input beyond the context ends alone, with the reason length', async (t, model) => {
  const batch = model.generateBatch(['word '.repeat(model.info.contextLength + 10), capital], { maxTokens: 8 });
  const texts = await batch.texts();
  t.is(texts[0], '');
  t.regex(texts[1] ?? '', /Paris/);
  const [long, short] = batch.results ?? [];
  t.deepEqual([long?.reason, long?.tokens.length, long?.promptTokens], ['length', 0, 0]);
  t.is(short?.reason, 'stop');
});

onEachEngine('an aborted batch rejects with the reason, in its prompts and in its answers', async (t, model) => {
  const reason = new Error('enough');
  const reading = new AbortController();
  const long = model.generateBatch([story.repeat(3), story], {
    signal: reading.signal,
    onPrompt: () => reading.abort(reason),
  });
  t.is(await t.throwsAsync(long.texts()), reason);
  t.is(long.results, undefined);
  t.is(long.stats().active, 2);
  const answering = new AbortController();
  const batch = model.generateBatch(inputs, { signal: answering.signal });
  let pieces = 0;
  const error = await t.throwsAsync(async () => {
    for await (const _ of batch) {
      pieces += 1;
      if (pieces === 3) answering.abort(reason);
    }
  });
  t.is(error, reason);
  t.true(batch.stats().tokens > 0);
  const failing = model.generateBatch([story], {
    onPrompt: () => {
      throw reason;
    },
  });
  t.is(await t.throwsAsync(failing.texts()), reason);
  // Leaving the loop ends it as well.
  const left = model.generateBatch(inputs);
  for await (const _ of left) break;
  t.is(left.results, undefined);
  await t.throwsAsync(left.texts(), { message: /iterated over already/ });
  t.regex((await model.generateBatch([capital], { maxTokens: 8 }).texts())[0] ?? '', /Paris/);
});

onEachEngine('a batch is busy while a step is computed', async (t, model) => {
  const batch = model.generateBatch([story.repeat(3)], {
    maxTokens: 1,
    onPrompt: ({ done, total }) => {
      if (done < total) refusesWith(t, 'BUSY', () => batch.stats());
    },
  });
  t.is((await batch.texts()).length, 1);
});

onEachEngine('wrong batches are refused by name', async (t, model) => {
  const begin = (given: unknown, options: object = {}) => model.generateBatch(given as string[], options);
  refusesWith(t, 'INVALID_OPTION', () => begin([]));
  refusesWith(t, 'INVALID_OPTION', () => begin('text'));
  refusesWith(t, 'INVALID_OPTION', () => begin([3]));
  refusesWith(t, 'INVALID_OPTION', () => begin([[]]));
  refusesWith(t, 'SHAPE_MISMATCH', () => begin(['x', '']));
  refusesWith(t, 'INVALID_OPTION', () => begin(['x'], { cache: 'gear-9' }));
  refusesWith(t, 'INVALID_OPTION', () => begin(['x'], { maxTokens: 0 }));
  refusesWith(t, 'INVALID_OPTION', () => begin(['x'], { signal: {} }));
  refusesWith(t, 'INVALID_OPTION', () => begin(['x'], { onPrompt: 'x' }));
  refusesWith(t, 'INVALID_OPTION', () => begin(['x'], { maxtokens: 3 }));
  const signal = AbortSignal.abort(new Error('no'));
  await t.throwsAsync(begin(['x'], { signal }).texts(), { message: 'no' });
  await rejectsWith(t, 'INVALID_OPTION', async () => begin(['x'], { seed: -1 }).texts());
});
