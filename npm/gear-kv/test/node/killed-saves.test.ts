import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import test from 'ava';
import * as gear from 'gear-kv';
import { hiddenName } from '../../src/left-behind.js';
import { emptyFolder, packageFolder } from './command.js';

const ROUNDS = 12;

/** Saves a cache of 1,000 tokens and one of 1,500 by turns, without an end. */
const SAVER = `
  const { GearCache } = await import('gear-kv');
  const caches = [1000, 1500].map((tokens) => {
    const cache = new GearCache({ layers: 4, kvHeads: 4, headDim: 64, preset: 'float16' });
    const values = new Float32Array(4 * tokens * 64).map((_, i) => (i % 97) / 50 - 1);
    for (let layer = 0; layer < 4; layer++) cache.append(layer, values, values);
    return cache;
  });
  console.log('ready');
  for (let turn = 0; ; turn++) {
    const cache = caches[turn % 2];
    await cache.save(process.argv[1], { about: { model: 'm' + cache.tokens } });
  }
`;

test('a process that is killed while it saves leaves the old file or the new one, whole', async (t) => {
  const folder = emptyFolder();
  const path = join(folder, 'chat.gear');
  const first = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: 8 });
  await first.save(path, { about: { model: 'm0' } });
  const found: Record<string, number> = {};
  for (let round = 0; round < ROUNDS; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', SAVER, path], {
      cwd: packageFolder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const gone = once(child, 'exit');
    await once(child.stdout, 'data');
    // In the first rounds in the first save, where the file of the round before is the old one.
    await setTimeout(Math.random() * (round < ROUNDS / 2 ? 10 : 100));
    child.kill('SIGKILL');
    t.deepEqual(await gone, [null, 'SIGKILL']);
    const cache = await gear.GearCache.load(path);
    const model = cache.about?.model ?? '';
    t.is(model, `m${cache.tokens}`);
    t.true([0, 1000, 1500].includes(cache.tokens));
    found[model] = (found[model] ?? 0) + 1;
    cache.dispose();
  }
  // Each load above was of a whole file; the next save clears away what the killed ones left, and nothing else.
  const left = readdirSync(folder).filter((name) => name !== 'chat.gear');
  const others = ['.chat.gear.1-2.tmp', '.chat.gear.zz-1-2-3.tmp', '.other.tmp', hiddenName('chat.gear')];
  for (const name of others) writeFileSync(join(folder, name), 'somebody else is writing this');
  await first.save(path);
  t.deepEqual(readdirSync(folder).sort(), [...others, 'chat.gear'].sort());
  const interrupted = left.length;
  t.log(`${interrupted} of ${ROUNDS} kills were inside a save; found ${JSON.stringify(found)}`);
});
