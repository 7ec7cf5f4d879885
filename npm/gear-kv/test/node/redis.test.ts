import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test, { type ExecutionContext } from 'ava';
import { PromptCache, RedisStore } from 'gear-kv/store';
import { peerFolder, requireFrom } from '../../../../benches/js/peers.js';
import { rejects, sameBits } from '../suite/support.js';
import { packageFolder } from './command.js';
import { filled, PROMPTS_PROCESS } from './prompts-process.js';
import { startRedis } from './redis-server.js';

type Client = import('./redis-client.js').RedisClient;
type Redis = { createClient(options: object): Client };

/** What all tests need; a reason where it cannot be had, with which they are skipped. */
const given = await (async () => {
  try {
    const { createClient } = requireFrom(peerFolder('redis'))('redis') as Redis;
    const server = await startRedis('--maxmemory', '64mb', '--maxmemory-policy', 'noeviction');
    return { createClient, server };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
})();

test.after.always(async () => {
  if (typeof given !== 'string') await given.server.stop();
});

/** A test with a client on an empty database; skipped, with the reason in its title, where there is no server. */
function onRedis(title: string, body: (t: ExecutionContext, client: Client, path: string) => Promise<void>): void {
  if (typeof given === 'string') {
    test.serial.skip(`${title} (skipped: ${given})`, () => {});
    return;
  }
  const { createClient, server } = given;
  test.serial(title, async (t) => {
    const client = await createClient({ socket: { path: server.url } }).connect();
    try {
      await client.sendCommand(['FLUSHALL']);
      await body(t, client, server.url);
    } finally {
      await client.close();
    }
  });
}

async function* pieces(...parts: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

async function all(bytes: AsyncIterable<Uint8Array> | undefined): Promise<Buffer | undefined> {
  if (bytes === undefined) return undefined;
  const parts: Uint8Array[] = [];
  for await (const piece of bytes) parts.push(piece.slice());
  return Buffer.concat(parts);
}

const names = async (store: RedisStore) => (await store.list()).map(({ name }) => name).sort();

onRedis('put, get, list, touch and delete; nothing is left behind', async (t, client) => {
  const store = new RedisStore(client, { prefix: 'a*[x]:' });
  const other = new RedisStore(client, { prefix: 'b:' });
  const large = Buffer.alloc(2_500_000, 'noise \xff\x00\r\n', 'latin1');
  t.is(await store.get('one'), undefined);
  await store.put('one', pieces(large.subarray(0, 5), large.subarray(5)));
  await store.put('two', pieces(Uint8Array.of(1)));
  await other.put('three', pieces(Uint8Array.of(3)));
  t.true(sameBits((await all(await store.get('one'))) ?? Buffer.of(), large));
  t.deepEqual(await names(store), ['one', 'two']);
  const before = await store.list();
  t.is(before.find(({ name }) => name === 'one')?.byteLength, 2_500_000);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await store.touch('one');
  await store.touch('none');
  const usedAt = async (wanted: string) => (await store.list()).find(({ name }) => name === wanted)?.usedAt ?? 0;
  t.true((await usedAt('one')) > (await usedAt('two')));
  await store.put('one', pieces(Uint8Array.of(7)));
  t.deepEqual(await all(await store.get('one')), Buffer.of(7));
  for (const name of ['one', 'two', 'none']) await store.delete(name);
  await other.delete('three');
  t.deepEqual(await client.sendCommand(['KEYS', '*']), []);
});

onRedis('everything has a time to live, also what a killed writer leaves', async (t, client) => {
  const store = new RedisStore(client, { ttlSeconds: 1000 });
  await store.put('one', pieces(Buffer.alloc(1_500_000)));
  const times = async () => {
    const keys = (await client.sendCommand(['KEYS', '*'])) as string[];
    return Promise.all(keys.map((key) => client.sendCommand(['TTL', key]) as Promise<number>));
  };
  t.is((await times()).length, 4);
  t.true((await times()).every((seconds) => seconds > 990 && seconds <= 1000));
  const longer = new RedisStore(client, { ttlSeconds: 5000 });
  await longer.touch('one');
  t.true((await times()).every((seconds) => seconds > 4990));
  const short = new RedisStore(client, { ttlSeconds: 1 });
  await short.put('one', pieces(Uint8Array.of(1)));
  t.deepEqual(await all(await short.get('one')), Buffer.of(1));
  while ((await names(short)).length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  t.is(await short.get('one'), undefined);
});

onRedis('STORAGE_FULL: more than a value may have, or than the server has', async (t, client) => {
  const store = new RedisStore(client, { maxValueBytes: 1000 });
  await store.put('one', pieces(Uint8Array.of(1)));
  await rejects(t, 'STORAGE_FULL', () => store.put('one', pieces(Buffer.alloc(600), Buffer.alloc(600))), /1000/);
  const roomy = new RedisStore(client);
  const much = Array.from({ length: 100 }, () => Buffer.alloc(1 << 20));
  await rejects(t, 'STORAGE_FULL', () => roomy.put('one', pieces(...much)), /OOM/);
  t.deepEqual(await all(await store.get('one')), Buffer.of(1), 'the old value stays');
  t.is(((await client.sendCommand(['KEYS', '*'])) as string[]).length, 3, 'nothing is left behind');
});

onRedis('a value that goes away while it is read is IO_FAILED, and no half of it', async (t, client) => {
  const store = new RedisStore(client);
  await store.put('one', pieces(Buffer.alloc(3 << 20)));
  const reading = (await store.get('one')) ?? pieces();
  await rejects(
    t,
    'IO_FAILED',
    async () => {
      for await (const _ of reading) await store.delete('one');
    },
    /went away/,
  );
});

onRedis('two processes share one prefix', async (t, client, path) => {
  const prompts = new PromptCache({ store: new RedisStore(client), model: 'm', maxBytes: 1 << 26 });
  const run = async (...args: string[]) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', PROMPTS_PROCESS, ...args], {
      cwd: packageFolder,
      env: { ...process.env, REDIS_SOCKET: path, REDIS_PACKAGE: requireFrom(peerFolder('redis')).resolve('redis') },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await once(child, 'close');
    return output.trim();
  };
  using cache = filled(100);
  await prompts.put(
    Array.from({ length: 100 }, (_, index) => index),
    cache,
  );
  t.is(await run('get', '60'), '60', 'the other process finds what this one kept');
  t.is(await run('put', '150'), 'put');
  const hit = await prompts.get(Array.from({ length: 200 }, (_, index) => index));
  t.is(hit?.tokens, 150, 'and this one what the other kept');
  hit?.cache.dispose();
});
