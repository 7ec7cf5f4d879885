import test from 'ava';
import { FileStore, IndexedDbStore, MemoryStore, OpfsStore, RedisStore, type Store } from 'gear-kv/store';
import { environment, refuses, rejects, sameBits } from './support.js';

const inBrowser = environment.runtime === 'chromium';

async function temporaryFolder(): Promise<string> {
  const [fs, os] = ['node:fs/promises', 'node:os'];
  const { mkdtemp } = (await import(fs)) as typeof import('node:fs/promises');
  const { tmpdir } = (await import(os)) as typeof import('node:os');
  return mkdtemp(`${tmpdir()}/gear-kv-store-`);
}

async function remove(folder: string): Promise<void> {
  const fs = 'node:fs/promises';
  const { rm } = (await import(fs)) as typeof import('node:fs/promises');
  await rm(folder, { recursive: true, force: true });
}

/** Stores of this runtime, empty, each made twice: as two processes would have them. */
async function stores(): Promise<{ name: string; store: Store; second: Store; remove: () => Promise<void> }[]> {
  const memory = new MemoryStore();
  const all: Awaited<ReturnType<typeof stores>> = [
    { name: 'memory', store: memory, second: memory, remove: async () => {} },
  ];
  const unique = `test-${crypto.randomUUID()}`;
  if (inBrowser) {
    const databases = [new IndexedDbStore(unique), new IndexedDbStore(unique)] as const;
    all.push({
      name: 'IndexedDB',
      store: databases[0],
      second: databases[1],
      remove: () =>
        new Promise((resolve, reject) => {
          const request = indexedDB.deleteDatabase(unique);
          request.onsuccess = () => resolve();
          request.onerror = () => reject(request.error);
        }),
    });
    all.push({
      name: 'OPFS',
      store: new OpfsStore(unique),
      second: new OpfsStore(unique),
      remove: async () => (await navigator.storage.getDirectory()).removeEntry(unique, { recursive: true }),
    });
  } else {
    const folder = await temporaryFolder();
    const inner = `${folder}/made/when/needed`;
    all.push({
      name: 'files',
      store: new FileStore(inner),
      second: new FileStore(inner),
      remove: () => remove(folder),
    });
  }
  return all;
}

async function* pieces(...given: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* given;
}

async function all(bytes: AsyncIterable<Uint8Array> | undefined): Promise<Uint8Array | undefined> {
  if (bytes === undefined) return undefined;
  const parts: number[] = [];
  for await (const piece of bytes) for (const byte of piece) parts.push(byte);
  return Uint8Array.from(parts);
}

const some = Uint8Array.from({ length: 100_000 }, (_, index) => index * 7);
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));

test('put, get, list, touch and delete, as others see it', async (t) => {
  for (const { name, store, second, remove: undo } of await stores()) {
    t.deepEqual(await store.list(), [], name);
    t.is(await store.get('a'), undefined, name);
    await store.delete('a');
    await store.touch('a');
    t.deepEqual(await store.list(), [], name);
    const before = Date.now() - 1000;
    await store.put('a', pieces(some.subarray(0, 10), some.subarray(10)));
    await pause();
    await store.put('b.x-1_', pieces(Uint8Array.of(1)));
    t.true(sameBits((await all(await second.get('a'))) ?? Uint8Array.of(), some), name);
    const listed = [...(await second.list())].sort((one, other) => one.usedAt - other.usedAt);
    t.deepEqual(
      listed.map((entry) => [entry.name, entry.byteLength]),
      [
        ['a', 100_000],
        ['b.x-1_', 1],
      ],
      name,
    );
    t.true((listed[0]?.usedAt ?? 0) > before, name);
    await pause();
    await second.touch('a');
    const touched = [...(await store.list())].sort((one, other) => one.usedAt - other.usedAt);
    t.deepEqual(
      touched.map((entry) => entry.name),
      ['b.x-1_', 'a'],
      name,
    );
    await store.put('a', pieces(Uint8Array.of(7, 8)));
    t.deepEqual(await all(await second.get('a')), Uint8Array.of(7, 8), name);
    await second.delete('a');
    t.is(await store.get('a'), undefined, name);
    t.deepEqual(
      (await store.list()).map((entry) => entry.name),
      ['b.x-1_'],
      name,
    );
    await undo();
  }
});

test('a put that fails or is stopped leaves the old value', async (t) => {
  for (const { name, store, remove: undo } of await stores()) {
    await store.put('a', pieces(Uint8Array.of(1)));
    const failing = (async function* () {
      yield some;
      throw new Error('the source broke');
    })();
    await rejects(t, 'IO_FAILED', () => store.put('a', failing), /the source broke/);
    const stop = new AbortController();
    const reason = new Error('enough');
    const stopped = (async function* () {
      yield some;
      stop.abort(reason);
      yield some;
    })();
    t.is(await t.throwsAsync(store.put('a', stopped, { signal: stop.signal })), reason, name);
    const never = store.put('new', pieces(some), { signal: stop.signal });
    t.is(await t.throwsAsync(never), reason, name);
    t.deepEqual(await all(await store.get('a')), Uint8Array.of(1), name);
    t.deepEqual(
      (await store.list()).map((entry) => entry.name),
      ['a'],
      name,
    );
    await undo();
  }
});

test('names that could lead elsewhere are refused', async (t) => {
  for (const { store, remove: undo } of await stores()) {
    for (const wrong of ['', '.', '..', '../a', 'a/b', 'a\\b', '.a', 'a b', 'ä', 'x'.repeat(201), 7, undefined]) {
      await rejects(t, 'INVALID_OPTION', () => store.get(wrong as string), /name/);
      await rejects(t, 'INVALID_OPTION', () => store.put(wrong as string, pieces(some)), /name/);
      await rejects(t, 'INVALID_OPTION', () => store.delete(wrong as string), /name/);
      await rejects(t, 'INVALID_OPTION', () => store.touch(wrong as string), /name/);
    }
    t.deepEqual(await store.list(), []);
    await undo();
  }
});

test('a store that this runtime has not says which one it has', async (t) => {
  if (inBrowser) {
    await rejects(t, 'IO_FAILED', () => new FileStore('x').list(), /OpfsStore/);
  } else {
    if (typeof indexedDB === 'undefined') {
      await rejects(t, 'IO_FAILED', () => new IndexedDbStore().list(), /FileStore/);
    }
    await rejects(t, 'IO_FAILED', () => new OpfsStore().list(), /FileStore/);
  }
  refuses(t, 'INVALID_OPTION', () => new FileStore('' as never), /folder/);
  refuses(t, 'INVALID_OPTION', () => new RedisStore({} as never), /createClient/);
});

// The runner for Chromium gives the page a quota of 64 MiB.
if (inBrowser) {
  test('STORAGE_FULL: the quota is reached, and the old value stays', async (t) => {
    for (const { name, store, remove: undo } of await stores()) {
      if (name === 'memory') continue;
      await store.put('a', pieces(Uint8Array.of(1)));
      const much = (async function* () {
        // Noise: a browser may compress.
        for (let count = 0; count < 16 * 100; count++) yield crypto.getRandomValues(new Uint8Array(65_536));
      })();
      await rejects(t, 'STORAGE_FULL', () => store.put('a', much), /no room/);
      t.deepEqual(await all(await store.get('a')), Uint8Array.of(1), name);
      await undo();
    }
  });
}
