// `npm start`: a model answers a long prompt on caches of three kinds. Where no model can be reached, the demo on a recorded
// cache.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fetchModel } from './setup/model.mjs';
import { DIST } from './setup/places.mjs';
import { say } from './setup/progress.mjs';

const given = process.argv.slice(2);

function gearKv(...args) {
  const child = spawn(process.execPath, [join(DIST, 'cli.js'), ...args], { stdio: 'inherit' });
  child.on('close', (code) => {
    process.exitCode = code ?? 1;
  });
}

const isNamed = given.some((argument) => argument === '--model' || argument.startsWith('--model='));
if (isNamed || (await fetchModel()) !== undefined) {
  gearKv('compare', ...given);
} else {
  say('\nNo model can be reached, so here is the demo on a cache that was recorded from one:\n');
  // The other flags are about answers.
  gearKv('demo', ...given.filter((argument) => argument === '--json'));
}
