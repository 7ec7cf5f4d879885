import { execFileSync } from 'node:child_process';
import test from 'ava';
import { packageFolder } from './command.js';

const CACHES = 200;

/** Drops caches without disposing of them; prints how many were not collected at most. JavaScript's own heap has no reason to collect anything. */
const DROPPING = `
  const { GearCache } = await import('gear-kv/native');
  const values = new Float32Array(8 * 1024 * 128);
  let [alive, most] = [0, 0];
  const registry = new FinalizationRegistry(() => { alive -= 1; });
  for (let made = 0; made < ${CACHES}; made++) {
    const cache = new GearCache({ layers: 1, kvHeads: 8, headDim: 128, preset: 'float16' });
    registry.register(cache);
    alive += 1;
    cache.append(0, values, values);
    await new Promise(setImmediate);
    most = Math.max(most, alive);
  }
  console.log(most);
`;

// process.memoryUsage().external does not tell: V8 counts array buffers there, and no memory that modules report.
test('the garbage collector knows how much memory a native cache has grown to', (t) => {
  const most = Number(
    execFileSync(process.execPath, ['--input-type=module', '-e', DROPPING], { cwd: packageFolder, encoding: 'utf8' }),
  );
  t.log(`of ${CACHES} caches of 4.2 MB, ${most} at most were in memory`);
  t.true(most > 0 && most < CACHES / 2);
});
