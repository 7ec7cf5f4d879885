// A model on compressed caches, beside the same engine with a float16 cache and beside llama.cpp, in one run:
// `npm run bench:llm`, `-- --help` for more. Each row is measured in a process of its own. What each row is: benches/README.md.

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fetchModel, GearModel } from 'gear-kv/llm';
import { peerFolder } from '../peers.js';
import { targetTable } from '../report.js';
import {
  budgetTasks,
  CACHES,
  full,
  type Given,
  largestBatch,
  memoryTasks,
  quick,
  type Sizes,
  speedTasks,
} from './plan.js';
import { report } from './report.js';
import { labelOf, type Row, type Task } from './rows.js';
import { targets } from './targets.js';

const MEASURES = ['speed', 'memory', 'budget'];
const HELP = `npm run bench:llm -- [options]

  --only MEASURE      speed, memory or budget; may be given several times
  --contexts N,…      lengths of the prompts whose speed is measured (${full.contexts.join(',')}); at most what the model leaves beside ${full.decode}
                      decoded tokens
  --cache NAME        only these caches, ours and llama.cpp's: ${CACHES.join(', ')}; may be given several times
  --threads N         1 unless given
  --rounds N          measures everything so many times, in turns, and keeps the round of each row that decoded fastest
  --model FILE        another GGUF file
  --quick             short prompts: some minutes instead of an hour
  --json              rows and targets as JSON on standard output, progress on standard error
  --help              this`;
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
    model: { type: 'string' },
    help: { type: 'boolean', default: false },
    contexts: { type: 'string' },
    rounds: { type: 'string', default: '1' },
    cache: { type: 'string', multiple: true, default: [...CACHES] },
    only: { type: 'string', multiple: true, default: MEASURES },
  },
});
const say = (text: string): boolean => process.stderr.write(text);

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

function among(option: string, given: readonly string[], known: readonly string[]): void {
  const unknown = given.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw new Error(`--${option} is ${unknown.join(', ')}; expected ${known.join(', ')}`);
}

function positive(option: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1) throw new Error(`--${option} is ${text}; expected 1 or more`);
  return number;
}

/** Prompts leave room for what is decoded. */
async function sizesFor(model: string): Promise<Sizes> {
  const sizes = values.quick ? quick : full;
  if (values.contexts === undefined) return sizes;
  const asked = values.contexts.split(',').map((text) => positive('contexts', text));
  using loaded = await GearModel.load(model);
  // A few tokens more or less come of turning the text into tokens again.
  const most = loaded.info.contextLength - sizes.decode - 8;
  return { ...sizes, contexts: asked.map((context) => Math.min(context, most)) };
}

async function run(): Promise<Row[]> {
  among('only', values.only, MEASURES);
  among('cache', values.cache, CACHES);
  const threads = positive('threads', values.threads);
  const given = { model: values.model ?? (await fetchModel()), peers: peerFolder('node-llama-cpp'), threads };
  const sizes = await sizesFor(given.model);
  const rounds = positive('rounds', values.rounds);
  const first = measureAll(sizes, given);
  for (let round = 1; round < rounds; round++) {
    measureAll(sizes, given).forEach((row, i) => {
      if (row.decodeTokensPerSecond > (first[i] as Row).decodeTokensPerSecond) first[i] = row;
    });
  }
  return first;
}

function measureAll(sizes: Sizes, given: Given): Row[] {
  const wanted = ({ cache }: Task): boolean => values.cache.includes(cache);
  const rows: Row[] = [];
  if (values.only.includes('speed')) rows.push(...speedTasks(sizes, given).filter(wanted).map(measured));
  if (values.only.includes('memory')) rows.push(...memoryTasks(sizes, given).filter(wanted).map(measured));
  if (values.only.includes('budget')) {
    let float16: Row | undefined;
    for (const task of budgetTasks(sizes, given)) {
      // The budget is float16's, whether its row is wanted or not.
      if (!wanted(task) && float16 !== undefined) continue;
      const one = measured(task);
      float16 ??= one;
      if (wanted(task)) rows.push(measured({ ...task, batch: largestBatch(sizes, one, float16) }));
    }
  }
  return rows;
}

if (values.help) {
  console.log(HELP);
} else {
  const rows = await run();
  const reached = targets(rows);
  const tables = reached.length === 0 ? [report(rows)] : [report(rows), targetTable(reached)];
  console.log(values.json ? JSON.stringify({ rows, targets: reached }, null, 2) : `\n${tables.join('\n\n')}`);
}
