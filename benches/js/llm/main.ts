// Decoding and prefill on a compressed cache, beside the same engine with a float16 cache and beside llama.cpp, in one run:
// `npm run bench:llm` (`-- --quick`, `-- --json`). Each row is measured in a process of its own.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fetchModel } from 'gear-kv/llm';
import type { Row, Task } from './rows.js';

const PEER = 'node-llama-cpp@3.22.1';
const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    threads: { type: 'string', default: '1' },
    model: { type: 'string' },
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

const model = values.model ?? (await fetchModel());
const folder = peers();
// SmolLM2 was made for 8192 tokens; the longest prompt leaves room for what is decoded.
const contexts = values.quick ? [256, 1024] : [256, 1024, 4096, 8000];
const decode = values.quick ? 48 : 128;
const kinds: Pick<Task, 'engine' | 'cache' | 'flashAttention'>[] = [
  ...['float16', 'gear-4', 'gear-2', 'kivi-2'].map((cache) => ({
    engine: 'gear-kv' as const,
    cache,
    flashAttention: false,
  })),
  { engine: 'llama.cpp', cache: 'f16', flashAttention: false },
  { engine: 'llama.cpp', cache: 'f16', flashAttention: true },
  { engine: 'llama.cpp', cache: 'q8_0', flashAttention: true },
  { engine: 'llama.cpp', cache: 'q4_0', flashAttention: true },
];

const rows: Row[] = [];
const worker = fileURLToPath(new URL('./worker.ts', import.meta.url));
for (const context of contexts) {
  for (const kind of kinds) {
    const task: Task = { ...kind, model, peers: folder, context, decode, threads: Number(values.threads) };
    say(`  ${task.engine} ${task.cache}${task.flashAttention ? ' (flash)' : ''}, ${context} tokens …\n`);
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--import=tsx', worker, JSON.stringify(task)], {
      encoding: 'utf8',
      env: { ...process.env, RAYON_NUM_THREADS: values.threads },
    });
    if (status !== 0) throw new Error(`${JSON.stringify(task)} failed with ${status}:\n${stderr}`);
    rows.push(JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Row);
  }
}

if (values.json) console.log(JSON.stringify(rows, null, 2));
else print();

function print(): void {
  const megabytes = (bytes: number | undefined): string => (bytes === undefined ? '–' : (bytes / 1e6).toFixed(1));
  const line = (...cells: (string | number)[]): void =>
    console.log(cells.map((cell, i) => (i < 2 ? String(cell).padEnd(16) : String(cell).padStart(12))).join(' '));
  line('engine', 'cache', 'context', 'prefill t/s', 'decode t/s', 'of float16', 'of llama.cpp', 'cache MB', 'peak MB');
  for (const row of rows) {
    const same = rows.filter(({ context }) => Math.abs(context - row.context) < 32);
    const own = same.find(({ cache }) => cache === 'float16');
    const theirs = same.find(({ engine, flashAttention }) => engine === 'llama.cpp' && flashAttention === true);
    const ratio = (base: Row | undefined): string =>
      base === undefined ? '–' : `${(row.decodeTokensPerSecond / base.decodeTokensPerSecond).toFixed(2)} x`;
    line(
      row.engine,
      `${row.cache}${row.flashAttention === true ? ' flash' : ''}`,
      row.context,
      row.prefillTokensPerSecond.toFixed(0),
      row.decodeTokensPerSecond.toFixed(1),
      ratio(own),
      ratio(theirs),
      megabytes(row.cacheBytes),
      megabytes(row.peakBytesOverModel),
    );
  }
}
