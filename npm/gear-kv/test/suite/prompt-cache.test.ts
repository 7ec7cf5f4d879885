import test from 'ava';
import fc from 'fast-check';
import { init, MemoryStore, PromptCache, type Store } from 'gear-kv/store';
import { kvNumbers } from './numbers.js';
import { CountingStore, cacheOf, HEAD_DIM, promptCache, put, range, rows } from './prompts.js';
import { gear, refuses, rejects, sameBits } from './support.js';

await init();

test('the longest common prefix is found, cut to what is shared', async (t) => {
  using prompts = promptCache();
  t.is(await prompts.get([1, 2, 3]), undefined);
  await put(prompts, [1, 2, 3, 4, 5]);
  await put(prompts, [1, 2, 9]);
  for (const [asked, shared] of [
    [[1, 2, 3, 4, 5, 6], 5],
    [[1, 2, 3, 4, 5], 5],
    [[1, 2, 3, 7], 3],
    [[1, 2, 9, 9], 3],
    [[1], 1],
    [[2, 1], 0],
    [[], 0],
  ] as const) {
    const hit = await prompts.get(asked);
    t.is(hit?.tokens ?? 0, shared);
    if (hit === undefined) continue;
    t.is(hit.cache.tokens, shared);
    t.true(sameBits(hit.cache.key(0), rows(asked.slice(0, shared))));
    hit.cache.append(0, rows([7]), rows([7]));
    hit.cache.dispose();
  }
  t.is((await prompts.get(BigInt64Array.of(1n, 2n, 3n)))?.tokens, 3);
});

test('against a list that is searched by hand, sealed or not', async (t) => {
  const prefix = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fc.array(prefix, { maxLength: 6 }), prefix, fc.boolean(), async (kept, asked, isSealed) => {
      const key = isSealed ? { key: new Uint8Array(32).fill(7) } : {};
      const store = new MemoryStore();
      const writing = promptCache({ store, ...key });
      for (const tokens of kept) await put(writing, tokens);
      // Another process, which has seen nothing of this.
      const hit = await promptCache({ store, ...key }).get(asked);
      const shared = (tokens: number[]): number => {
        let length = 0;
        while (length < Math.min(tokens.length, asked.length) && tokens[length] === asked[length]) length++;
        return length;
      };
      const best = Math.max(0, ...kept.map(shared));
      const isRight =
        (hit?.tokens ?? 0) === best && (hit === undefined || sameBits(hit.cache.key(0), rows(asked.slice(0, best))));
      hit?.cache.dispose();
      return isRight;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

async function size(store: Store): Promise<number> {
  return (await store.list()).reduce((sum, { byteLength }) => sum + byteLength, 0);
}

test('the least recently used goes first, and the budget holds: against a list kept by hand', async (t) => {
  const probe = new MemoryStore();
  await put(promptCache({ store: probe }), range(8));
  const each = await size(probe);
  const steps = fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 6 })), { minLength: 1, maxLength: 25 });
  await fc.assert(
    fc.asyncProperty(steps, fc.integer({ min: 1, max: 4 }), async (taken, room) => {
      const store = new CountingStore();
      const prompts = promptCache({ store, maxBytes: room * each + 1 });
      let used: number[] = [];
      for (const [isPut, which] of taken) {
        // Prefixes of as many bytes each, which share nothing.
        const tokens = range(8, 100 * which);
        const isThere = used.includes(which);
        if (isPut) {
          await put(prompts, tokens);
        } else {
          const hit = await prompts.get(tokens);
          hit?.cache.dispose();
          if ((hit !== undefined) !== isThere) return false;
        }
        if (isPut || isThere) used = [...used.filter((other) => other !== which), which].slice(-room);
        if ((await size(store)) > room * each + 1 || (await store.list()).length !== 2 * used.length) return false;
      }
      return true;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

test('a prefix of another model is never returned', async (t) => {
  const store = new MemoryStore();
  await put(promptCache({ store, model: 'one' }), [1, 2, 3]);
  t.is(await promptCache({ store, model: 'two' }).get([1, 2, 3]), undefined);
  // Somebody renames the files.
  const two = promptCache({ store, model: 'two' });
  await put(two, [1, 2, 3]);
  const names = (await store.list()).map(({ name }) => name).filter((name) => name.endsWith('.gear'));
  t.is(names.length, 2);
  const first = await store.get(names[0] ?? '');
  if (first === undefined) return t.fail();
  await store.put(names[1] ?? '', first);
  t.is(await two.get([1, 2, 3]), undefined);
  await put(two, [1, 2, 3]);
  t.is((await two.get([1, 2, 3]))?.tokens, 3, 'the next put renews it');
});

test('with a key, names and contents reveal nothing, and another key finds nothing', async (t) => {
  const [plain, sealedOne, sealedTwo] = [new MemoryStore(), new MemoryStore(), new MemoryStore()];
  const keys = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)] as const;
  await put(promptCache({ store: plain }), [1, 2, 3]);
  await put(promptCache({ store: sealedOne, key: keys[0] }), [1, 2, 3]);
  await put(promptCache({ store: sealedTwo, key: keys[1] }), [1, 2, 3]);
  const all = await Promise.all([plain, sealedOne, sealedTwo].map(async (store) => (await store.list())[0]?.name));
  t.is(new Set(all.map((name) => name?.slice(0, 16))).size, 3);
  t.is(new Set(all.map((name) => name?.slice(17))).size, 3);
  for (const { name } of await sealedOne.list()) {
    for await (const piece of (await sealedOne.get(name)) ?? []) {
      t.is(new TextDecoder().decode(piece.subarray(0, 8)), 'GEARSEAL');
      break;
    }
  }
  t.is(await promptCache({ store: sealedOne, key: keys[1] }).get([1, 2, 3]), undefined);
  t.is(await promptCache({ store: sealedOne }).get([1, 2, 3]), undefined);
  t.is((await promptCache({ store: sealedOne, key: keys[0] }).get([1, 2, 3]))?.tokens, 3);
});

test('what is damaged or gone is a miss, and is let go of', async (t) => {
  for (const key of [undefined, new Uint8Array(32).fill(1)]) {
    for (const ending of ['.ids', '.gear']) {
      for (const damage of ['flip', 'delete'] as const) {
        const store = new MemoryStore();
        const options = { store, ...(key !== undefined && { key }) };
        await put(promptCache(options), [5, 6, 7, 8]);
        await put(promptCache(options), [5, 6]);
        const longest = [...(await store.list())]
          .filter(({ name }) => name.endsWith(ending))
          .sort((one, other) => other.byteLength - one.byteLength)[0];
        const name = longest?.name ?? '';
        if (damage === 'delete') await store.delete(name);
        else {
          for await (const piece of (await store.get(name)) ?? []) {
            const at = piece.length - 1;
            piece[at] = (piece[at] ?? 0) ^ 1;
            await store.put(
              name,
              (async function* () {
                yield piece;
              })(),
            );
          }
        }
        const prompts = promptCache(options);
        const hit = await prompts.get([5, 6, 7, 8]);
        t.is(hit?.tokens, 2, `${damage} ${ending}`);
        await put(prompts, [5, 6, 7, 8]);
        t.is((await prompts.get([5, 6, 7, 8]))?.tokens, 4, 'the next put renews it');
      }
    }
  }
});

test('what is asked for at the same time is read once; everybody gets a cache of their own', async (t) => {
  const store = new CountingStore();
  const prompts = promptCache({ store });
  await Promise.all([put(prompts, [1, 2, 3]), put(prompts, [1, 2, 3])]);
  let open = (): void => {};
  store.opened = new Promise((resolve) => {
    open = resolve;
  });
  const asked = [1, 2, 3, 4].map(() => prompts.get([1, 2, 3]));
  // All of them are waiting by then; one that came later would make this fail, not pass.
  await new Promise((resolve) => setTimeout(resolve, 200));
  open();
  const hits = await Promise.all(asked);
  t.is(store.reads, 1);
  hits[0]?.cache.dispose();
  hits[1]?.cache.append(0, rows([9]), rows([9]));
  t.deepEqual(
    hits.slice(1).map((hit) => hit?.cache.tokens),
    [4, 3, 3],
  );
  await prompts.get([1, 2, 3]);
  t.is(store.reads, 2, 'nothing is held in memory');
});

test('a signal stops one who waits, not the others', async (t) => {
  const store = new MemoryStore();
  const prompts = promptCache({ store });
  await put(prompts, [1, 2, 3]);
  const stop = new AbortController();
  const reason = new Error('enough');
  const asked = [prompts.get([1, 2, 3], { signal: stop.signal }), prompts.get([1, 2, 3])];
  stop.abort(reason);
  t.is(await t.throwsAsync(asked[0] as Promise<unknown>), reason);
  t.is((await asked[1])?.tokens, 3);
  using cache = cacheOf([4, 5]);
  t.is(await t.throwsAsync(prompts.put([4, 5], cache, { signal: stop.signal })), reason);
  t.is(await prompts.get([4, 5]), undefined);
});

test('what cannot be kept is refused', async (t) => {
  refuses(t, 'INVALID_OPTION', () => new PromptCache(undefined as never), /PromptCache/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ store: {} as never }), /get\(\)/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ model: '' }), /model/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ maxBytes: 0 }), /maxBytes/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ key: new Uint8Array(5) }), /5 bytes/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ maxbytes: 1 } as never), /maxbytes/);
  refuses(t, 'INVALID_OPTION', () => promptCache({ refreshMs: -1 }), /refreshMs/);
  const prompts = promptCache({ maxBytes: 1000 });
  using small = cacheOf([1, 2]);
  using large = cacheOf(range(100));
  await rejects(t, 'SHAPE_MISMATCH', () => prompts.put([1], small), /1 tokens/);
  await rejects(t, 'OUT_OF_RANGE', () => prompts.put(range(100), large), /1000/);
  await rejects(t, 'INVALID_OPTION', () => prompts.get('text' as never), /tokens/);
  await rejects(t, 'INVALID_OPTION', () => prompts.put([1], {} as never), /GearCache/);
  using batch = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: HEAD_DIM, batch: 2 });
  const two = kvNumbers({ batch: 2, heads: 1, tokens: 2, headDim: HEAD_DIM });
  batch.append(0, two, two);
  await rejects(t, 'SHAPE_MISMATCH', () => prompts.put([1, 2], batch), /one sequence/);
  prompts.dispose();
  await rejects(t, 'DISPOSED', () => prompts.get([1]));
  await rejects(t, 'DISPOSED', () => prompts.put([1, 2], small));
});
