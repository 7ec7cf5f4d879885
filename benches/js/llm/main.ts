// A model on compressed caches, beside the same engine with a float16 cache and beside llama.cpp, in one run:
// `npm run bench:llm` (`-- --quick`, `-- --json`). Each row is measured in a process of its own.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fetchModel } from 'gear-kv/llm';
import { budgetTasks, full, largestBatch, memoryTasks, quick, speedTasks } from './plan.js';
import { report } from './report.js';
import { labelOf, type Row, type Task } from './rows.js';

const PEER = 'node-llama-cpp@3.22.1';
const MEASURES = ['speed', 'memory', 'budget'];
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
    model: { type: 'string' },
    only: { type: 'string', multiple: true, default: MEASURES },
  },
});
const say = (text: string): boolean => process.stderr.write(text);

/** llama.cpp, installed outside the repository: it is large, and only this benchmark wants it. */
function peers(): string {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'gear-kv', 'peers');
  if (!existsSync(join(folder, 'node_modules/node-llama-cpp'))) {
    say(`installing ${PEER} into ${folder} …\n`);
    mkdirSync(folder, { recursive: true });
    execFileSync('npm', ['install', '--prefix', folder, '--ignore-scripts', '--loglevel=error', PEER], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  return folder;
}

const worker = fileURLToPath(new URL('./worker.ts', import.meta.url));

function measured(task: Task): Row {
  say(`  ${task.measure}: ${task.engine} ${labelOf(task)}, ${task.batch} x ${task.context} tokens …\n`);
  const { stdout, stderr, status } = spawnSync(process.execPath, ['--import=tsx', worker, JSON.stringify(task)], {
    encoding: 'utf8',
    env: { ...process.env, RAYON_NUM_THREADS: String(task.threads) },
  });
  if (status !== 0) throw new Error(`${JSON.stringify(task)} failed with ${status}:\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Row;
}

const unknown = values.only.filter((name) => !MEASURES.includes(name));
if (unknown.length > 0) throw new Error(`--only is ${unknown.join(', ')}; expected ${MEASURES.join(', ')}`);
const threads = Number(values.threads);
if (!Number.isInteger(threads) || threads < 1) throw new Error(`--threads is ${values.threads}; expected 1 or more`);
const sizes = values.quick ? quick : full;
const given = { model: values.model ?? (await fetchModel()), peers: peers(), threads };
const rows: Row[] = [];
if (values.only.includes('speed')) rows.push(...speedTasks(sizes, given).map(measured));
if (values.only.includes('memory')) rows.push(...memoryTasks(sizes, given).map(measured));
if (values.only.includes('budget')) {
  let float16: Row | undefined;
  for (const task of budgetTasks(sizes, given)) {
    const one = measured(task);
    float16 ??= one;
    rows.push(measured({ ...task, batch: largestBatch(sizes, one, float16) }));
  }
}
console.log(values.json ? JSON.stringify(rows, null, 2) : `\n${report(rows)}`);
