// A prompt on its way in: how far it has come, and how it is stopped.
import type { Message } from 'gear-kv/llm';
import { onEachEngine, refusesWith, rejectsWith } from './engines.js';
import { story } from './talking.js';

const long: Message[] = [{ role: 'user', content: story.repeat(4) }];
const capital: Message[] = [{ role: 'user', content: 'What is the capital of France? Answer with one word.' }];

onEachEngine('a prompt tells how much of it has been taken in, and last that all has', async (t, model) => {
  using session = model.session();
  const seen: { done: number; total: number }[] = [];
  const generation = session.generate(long, { maxTokens: 2, onPrompt: (progress) => seen.push(progress) });
  await generation.text();
  const total = generation.result?.promptTokens ?? 0;
  t.true(total > 500 && seen.length > 1, `${seen.length} times for ${total} tokens`);
  t.true(seen.every((progress, at) => progress.total === total && progress.done > (seen[at - 1]?.done ?? -1)));
  t.deepEqual(
    seen.filter(({ done }) => done === total),
    seen.slice(-1),
  );
  const { attention, compression, matmul, other } = session.timings();
  t.true(attention > 0 && compression > 0 && matmul > 0 && other > 0);
  // What the session holds is not taken in again.
  seen.length = 0;
  await session.generate(' And', { maxTokens: 1, onPrompt: (progress) => seen.push(progress) }).text();
  t.deepEqual(seen, [{ done: 1, total: 1 }]);
});

onEachEngine('the event loop turns while a prompt is taken in, and stops it', async (t, model) => {
  using session = model.session();
  await session.generate(capital, { maxTokens: 4 }).text();
  const held = session.tokens;
  const reason = new Error('enough');
  const controller = new AbortController();
  const seen: number[] = [];
  const stopped = session.generate(long, {
    signal: controller.signal,
    onPrompt: ({ done, total }) => {
      seen.push(done / total);
      controller.abort(reason);
    },
  });
  t.is(await t.throwsAsync(stopped.text()), reason);
  t.true(seen.length === 1 && (seen[0] ?? 1) < 1, String(seen));
  // The engine lets go of the session a moment later; the next answer waits for that.
  t.regex(await session.generate(capital, { maxTokens: 16 }).text(), /Paris/);
  t.deepEqual(session.tokens.subarray(0, held.length - 4), held.subarray(0, held.length - 4));
});

onEachEngine('a session is busy while it takes a prompt in', async (t, model) => {
  const session = model.session();
  let asked = 0;
  const answer = session.generate(long, {
    maxTokens: 1,
    onPrompt: ({ done, total }) => {
      if (done === total || asked > 0) return;
      asked += 1;
      for (const use of [() => session.stats(), () => session.tokens, () => session.fork(), () => session.clear()]) {
        refusesWith(t, 'BUSY', use);
      }
      refusesWith(t, 'BUSY', () => session.truncate(0));
      refusesWith(t, 'BUSY', () => session.toBytes());
      refusesWith(t, 'BUSY', () => session.timings());
    },
  });
  await answer.text();
  t.is(asked, 1);
  t.is(answer.result?.tokens.length, 1);
  session.dispose();
});

onEachEngine('a session that is disposed of while it takes a prompt in ends the answer alone', async (t, model) => {
  const session = model.session();
  const answer = session.generate(long, { onPrompt: () => session.dispose() });
  await rejectsWith(t, 'DISPOSED', () => answer.text());
  t.regex(await model.generate(capital, { maxTokens: 16 }).text(), /Paris/);
});

onEachEngine('what onPrompt throws ends the answer, and the session can be used again', async (t, model) => {
  using session = model.session();
  const reason = new Error('the listener fails');
  const answer = session.generate(long, {
    onPrompt: () => {
      throw reason;
    },
  });
  t.is(await t.throwsAsync(answer.text()), reason);
  refusesWith(t, 'INVALID_OPTION', () => session.generate('x', { onPrompt: 3 as never }));
  t.regex(await session.generate(capital, { maxTokens: 16 }).text(), /Paris/);
});
