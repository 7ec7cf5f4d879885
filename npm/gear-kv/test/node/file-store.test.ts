import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test from 'ava';
import { FileStore, PromptCache } from 'gear-kv/store';
import { hiddenName } from '../../src/left-behind.js';
import { emptyFolder, packageFolder, ran } from './command.js';
import { filled, PROMPTS_PROCESS } from './prompts-process.js';

const tokens = (count: number) => Array.from({ length: count }, (_, index) => index);

async function otherProcess(folder: string, args: string[], maxBytes = 1 << 26): Promise<string> {
  const { stdout, stderr, code } = await ran(
    process.execPath,
    ['--input-type=module', '-e', PROMPTS_PROCESS, ...args],
    {
      env: { STORE_FOLDER: folder, MAX_BYTES: String(maxBytes) },
    },
  );
  if (code !== 0) throw new Error(stderr);
  return stdout.trim();
}

test('two processes share one prefix', async (t) => {
  const folder = emptyFolder();
  const prompts = new PromptCache({ store: new FileStore(folder), model: 'm', maxBytes: 1 << 26 });
  using cache = filled(100);
  await prompts.put(tokens(100), cache);
  t.is(await otherProcess(folder, ['get', '60']), '60', 'the other process finds what this one kept');
  t.is(await otherProcess(folder, ['put', '150']), 'put');
  const hit = await prompts.get(tokens(200));
  t.is(hit?.tokens, 150, 'and this one what the other kept');
  hit?.cache.dispose();
});

test('processes that put, evict and read the same prefixes at the same time never see half of one', async (t) => {
  const folder = emptyFolder();
  const store = new FileStore(folder);
  using cache = filled(58);
  const probe = new PromptCache({ store, model: 'm', maxBytes: 1 << 26 });
  await probe.put(tokens(58), cache);
  const each = (await store.list()).reduce((sum, { byteLength }) => sum + byteLength, 0);
  const maxBytes = 4 * each;
  const wrong = await Promise.all(['2', '4', '5'].map((stride) => otherProcess(folder, ['many', stride], maxBytes)));
  t.deepEqual(wrong, ['0', '0', '0']);
  // Whoever puts next brings it within the budget, whatever the others left.
  t.is(await otherProcess(folder, ['put', '40'], maxBytes), 'put');
  const left = (await store.list()).reduce((sum, { byteLength }) => sum + byteLength, 0);
  t.true(left <= maxBytes, `${left} bytes of ${maxBytes}`);
});

/** Puts values of 1 and 3 MiB by turns, each of one letter, without an end. */
const WRITER = `
  const { FileStore } = await import('gear-kv/store');
  const store = new FileStore(process.argv[1]);
  const values = ['a', 'b'].map((letter, index) => Buffer.alloc((1 + 2 * index) << 20, letter));
  console.log('ready');
  for (let turn = 0; ; turn++) {
    const bytes = values[turn % 2];
    await store.put('value', (async function* () {
      for (let at = 0; at < bytes.length; at += 65536) yield bytes.subarray(at, at + 65536);
    })());
  }
`;

test('a process that is killed while it puts leaves the old value or the new one, whole', async (t) => {
  const folder = emptyFolder();
  const store = new FileStore(folder);
  for (let round = 0; round < 8; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', WRITER, folder], {
      cwd: packageFolder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const gone = once(child, 'exit');
    await once(child.stdout, 'data');
    await setTimeout(Math.random() * 60);
    child.kill('SIGKILL');
    t.deepEqual(await gone, [null, 'SIGKILL']);
    const bytes: Uint8Array[] = [];
    for await (const piece of (await store.get('value')) ?? []) bytes.push(piece.slice());
    const text = Buffer.concat(bytes).toString('latin1');
    t.true(['', 'a'.repeat(1 << 20), 'b'.repeat(3 << 20)].includes(text), `${text.length} bytes`);
  }
  t.log(`${readdirSync(folder).filter((name) => name.startsWith('.')).length} of 8 kills were inside a put`);
});

test('what killed processes left behind goes with the next list, or after a day', async (t) => {
  const folder = emptyFolder();
  const store = new FileStore(folder);
  for (const name of ['.value.1-2.tmp', '.value.3-4.tmp']) writeFileSync(join(folder, name), 'half of a value');
  const yesterday = Date.now() / 1000 - 25 * 3600;
  utimesSync(join(folder, '.value.1-2.tmp'), yesterday, yesterday);
  t.deepEqual(await store.list(), []);
  t.deepEqual(readdirSync(folder), ['.value.3-4.tmp']);
  // A process that is gone: its number is not taken again so soon.
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  const [mine, gone] = [hiddenName('value'), hiddenName('value').replace(`-${process.pid}-`, `-${pid}-`)];
  for (const name of [mine, gone]) writeFileSync(join(folder, name), 'half of a value');
  t.deepEqual(await store.list(), []);
  t.deepEqual(readdirSync(folder).sort(), ['.value.3-4.tmp', mine].sort());
});
