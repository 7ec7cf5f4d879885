// Work beside answers that takes long: another cache for a session, measurements.
import { onEachEngine, refusesWith, rejectsWith } from './engines.js';
import { story } from './talking.js';

onEachEngine('a session goes on from the same tokens on another cache', async (t, model) => {
  using session = model.session({ cache: 'float16' });
  await session.generate(story, { maxTokens: 4 }).text();
  using small = await session.recompress({ cache: 'gear-2' });
  t.deepEqual(small.tokens, session.tokens);
  t.true(small.stats().byteLength < session.stats().byteLength / 2);
  t.true(small.timings().compression > 0 && small.timings().matmul === 0);
  using same = await session.recompress({ cache: { preset: 'float16' } });
  t.is(same.stats().byteLength, session.stats().byteLength);
  const go = (one: typeof session) => one.generate(' And then', { maxTokens: 6 }).text();
  t.is(await go(same), await go(session));
  t.true((await go(small)).length > 0);
  session.clear();
  t.true(small.stats().tokens > 0);
});

onEachEngine('recompressing is stopped by its signal, and refuses what it does not know', async (t, model) => {
  const session = model.session({ cache: 'float16' });
  await session.generate(story, { maxTokens: 2 }).text();
  const held = session.tokens;
  const reason = new Error('enough');
  const controller = new AbortController();
  const stopped = session.recompress({ cache: 'gear-4', signal: controller.signal });
  controller.abort(reason);
  t.is(await t.throwsAsync(stopped), reason);
  await rejectsWith(t, 'INVALID_OPTION', () => session.recompress({ cache: 'gear-9' as never }));
  await rejectsWith(t, 'INVALID_OPTION', () => session.recompress({} as never));
  await rejectsWith(t, 'INVALID_OPTION', () => session.recompress({ cache: 'gear-4', preset: 1 } as never));
  using other = await session.recompress({ cache: 'gear-4' });
  t.deepEqual(other.tokens, held);
  t.deepEqual(session.tokens, held);
  // One that has no tokens yet can be given another cache as well.
  using empty = model.session();
  using still = await empty.recompress({ cache: 'gear-2' });
  t.is(still.stats().tokens, 0);
  session.dispose();
  await rejectsWith(t, 'DISPOSED', () => session.recompress({ cache: 'gear-4' }));
});

onEachEngine('measurements let the event loop turn, and are stopped by their signal', async (t, model) => {
  const reason = new Error('enough');
  const stoppedAfter = async (turns: number, work: (signal: AbortSignal) => Promise<unknown>): Promise<unknown> => {
    const controller = new AbortController();
    const stopped = work(controller.signal);
    for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(reason);
    return t.throwsAsync(stopped);
  };
  const ids = [...model.tokenize(story.repeat(2))].slice(0, 300);
  const windows = { promptTokens: 200, continuationTokens: 99, tokenIds: [ids] };
  for (const turns of [1, 3]) {
    t.is(await stoppedAfter(turns, (signal) => model.perplexity(story, { signal })), reason);
    t.is(await stoppedAfter(turns, (signal) => model.evaluate(windows, { presets: ['gear-4'], signal })), reason);
  }
  const seen: { done: number; total: number }[] = [];
  const small = { promptTokens: 60, continuationTokens: 20, tokenIds: [ids] };
  const onProgress = (progress: { done: number; total: number }): void => void seen.push(progress);
  const { rows } = await model.evaluate(small, { presets: ['float16'], onProgress });
  t.deepEqual(seen.at(-1), { done: 2, total: 2 });
  t.true(Math.abs(rows[0]?.kl ?? 1) < 1e-5 && rows[0]?.top1 === 1);
  const failing = model.evaluate(small, {
    presets: ['gear-4', 'gear-2'],
    onProgress: () => {
      throw reason;
    },
  });
  t.is(await t.throwsAsync(failing), reason);
  await rejectsWith(t, 'INVALID_OPTION', () => model.evaluate(small, { presets: ['gear-4'], onProgress: 1 as never }));
  refusesWith(t, 'INVALID_OPTION', () => model.session({ cache: 'gear-9' as never }));
});
