// What PromptCache does beside finding a prefix: computing one once, keeping what belongs to it, and not listing its store all the time.

import test from 'ava';
import { init, MemoryStore, type PromptHit } from 'gear-kv/store';
import { CountingStore, cacheOf, promptCache, put, range, rows } from './prompts.js';
import { type gear, refuses, rejects, sameBits } from './support.js';

await init();

/** Goes on from what is kept, as a model would. */
function extended(tokens: readonly number[]) {
  return (prefix: PromptHit | undefined): gear.GearCache => {
    if (prefix === undefined) return cacheOf(tokens);
    const more = rows(tokens).subarray((prefix.tokens * rows(tokens).length) / tokens.length);
    prefix.cache.append(0, more, more);
    return prefix.cache;
  };
}

test('a prompt is computed once for all who ask at the same time, and never again', async (t) => {
  const store = new MemoryStore();
  const prompts = promptCache({ store });
  let computations = 0;
  let go = (): void => {};
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  const asked = [1, 2, 3].map(() =>
    prompts.through(range(5), async (prefix) => {
      computations += 1;
      await held;
      return extended(range(5))(prefix);
    }),
  );
  go();
  const results = await Promise.all(asked);
  t.is(computations, 1);
  results[0]?.cache.append(0, rows([9]), rows([9]));
  results[1]?.cache.dispose();
  t.true(sameBits(results[2]?.cache.key(0) ?? new Float32Array(), rows(range(5))));
  t.deepEqual(
    results.map(({ computed, tokens, notKept }) => [computed, tokens, notKept]),
    [1, 2, 3].map(() => [true, 5, undefined]),
  );
  const never = () => t.fail('it is kept') as never;
  const later = await promptCache({ store }).through(range(5), never);
  t.false(later.computed);
  t.true(sameBits(later.cache.key(0), rows(range(5))));
  t.is(later.about.model, 'm');
});

test('what is computed goes on from the longest prefix that is kept', async (t) => {
  const prompts = promptCache();
  await put(prompts, range(4));
  const { cache } = await prompts.through(range(6), (prefix) => {
    t.is(prefix?.tokens, 4);
    return extended(range(6))(prefix);
  });
  t.true(sameBits(cache.key(0), rows(range(6))));
  // The prefix that was kept is as it was.
  t.is((await prompts.get(range(4), { whole: true }))?.cache.tokens, 4);
  t.is((await prompts.get(range(9)))?.tokens, 6);
});

test('a computation that fails is told to all who wait, and begun anew by the next one', async (t) => {
  const prompts = promptCache();
  const fail = () => {
    throw new Error('no model');
  };
  const asked = [prompts.through([1, 2], fail), prompts.through([1, 2], fail)];
  for (const result of asked) await t.throwsAsync(result, { message: 'no model' });
  await rejects(t, 'SHAPE_MISMATCH', () => prompts.through([1, 2], () => cacheOf([1])), /2 tokens/);
  await rejects(t, 'INVALID_OPTION', () => prompts.through([1, 2], () => 5 as never), /GearCache/);
  await rejects(t, 'INVALID_OPTION', () => prompts.through([1, 2], undefined as never), /compute/);
  t.is((await prompts.through([1, 2], () => cacheOf([1, 2]))).cache.tokens, 2);
});

test('a signal stops one who waits; the computation goes on and is kept', async (t) => {
  const prompts = promptCache();
  const stop = new AbortController();
  const reason = new Error('enough');
  let go = (): void => {};
  const held = new Promise<gear.GearCache>((resolve) => {
    go = () => resolve(cacheOf([1, 2]));
  });
  const first = prompts.through([1, 2], () => held, { signal: stop.signal });
  const second = prompts.through([1, 2], () => t.fail('it is being computed') as never);
  stop.abort(reason);
  t.is(await t.throwsAsync(first), reason);
  go();
  t.is((await second).tokens, 2);
  t.is((await prompts.get([1, 2]))?.tokens, 2);
});

test('a store that takes nothing does not take away what was computed', async (t) => {
  const full = new Error('full');
  class Full extends MemoryStore {
    override async put(): Promise<void> {
      throw full;
    }
  }
  const { cache, notKept } = await promptCache({ store: new Full() }).through([1, 2], () => cacheOf([1, 2]));
  t.is(cache.tokens, 2);
  t.is(notKept, full);
});

test('what is put beside a cache comes with it; a whole cache is not cut', async (t) => {
  for (const key of [undefined, new Uint8Array(32).fill(3)]) {
    const prompts = promptCache(key && { key });
    using cache = cacheOf(range(6));
    const state = { dtype: 'U8', shape: [2], data: Uint8Array.of(7, 8) };
    const about = { model: 'not asked', metadata: { layers: ['a'] }, arrays: { state } };
    await prompts.put(range(6), { cache, about });
    const cut = await prompts.get(range(4));
    const whole = await prompts.get(range(4), { whole: true });
    t.deepEqual([cut?.tokens, cut?.cache.tokens, whole?.tokens, whole?.cache.tokens], [4, 4, 4, 6]);
    t.deepEqual(cut?.about, {
      model: 'm',
      tokenIds: Uint32Array.from(range(6)),
      metadata: { layers: ['a'] },
      arrays: { state },
    });
  }
});

test('a cache at rest is kept at rest, and found as one that is not', async (t) => {
  const store = new MemoryStore();
  const options = { store, key: new Uint8Array(32).fill(3) };
  using cache = cacheOf(range(64));
  using frozen = await cache.freeze({ bitsPerElement: 8 });
  await promptCache(options).put(range(64), frozen);
  const hit = await promptCache(options).get(range(40));
  t.is(hit?.cache.tokens, 40);
  using thawed = await frozen.thaw();
  thawed.truncate(40);
  t.true(sameBits(hit?.cache.key(0) ?? new Float32Array(), thawed.key(0)));
});

test('a store is listed no more often than was asked, and what is put here is found at once', async (t) => {
  const store = new CountingStore();
  const [here, elsewhere] = [promptCache({ store, refreshMs: 3_600_000 }), promptCache({ store, refreshMs: 0 })];
  t.is(await here.get([1, 2]), undefined);
  await put(here, [1, 2]);
  await put(elsewhere, [3, 4]);
  const before = store.lists;
  t.is((await here.get([1, 2]))?.tokens, 2);
  t.is(await here.get([3, 4]), undefined, 'what another one put since');
  t.is(store.lists, before);
  t.is((await elsewhere.get([1, 2]))?.tokens, 2);
  t.is((await elsewhere.get([3, 4]))?.tokens, 2);
  t.is(store.lists, before + 2);
  // What another one let go of is a miss.
  for (const { name } of await store.list()) await store.delete(name);
  t.is(await here.get([1, 2]), undefined);
  refuses(t, 'INVALID_OPTION', () => promptCache({ refreshMs: Number.NaN }), /refreshMs/);
});

test('what is put while the store is being listed is not forgotten', async (t) => {
  let listed = (): void => {};
  class Slow extends MemoryStore {
    waiting: Promise<void> | undefined;
    override async list() {
      const entries = await super.list();
      await this.waiting;
      return entries;
    }
  }
  const store = new Slow();
  const prompts = promptCache({ store, refreshMs: 50 });
  await put(prompts, [5]);
  // The list is taken before the put, and arrives after it.
  store.waiting = new Promise((resolve) => {
    listed = resolve;
  });
  const asked = prompts.get([1, 2]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  store.waiting = undefined;
  await put(prompts, [1, 2]);
  listed();
  t.is((await asked)?.tokens, 2);
});
