// Has the Rust harness (benches/quality) measure rows.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Configuration } from './configurations.js';
import type { Baseline, Found } from './results.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** A model, the texts that it reads and what is measured. */
export interface Task {
  readonly model: string;
  readonly windows: string;
  /** The model whose token ids the texts are, where that is another. */
  readonly windowsModel?: string;
  /** Which of the texts; all where this is left out. */
  readonly texts?: readonly number[];
  /** A recorded cache, for errors; without one the model's own is recorded. */
  readonly fixture?: string;
  readonly rows: readonly Configuration[];
}

export interface Measured {
  readonly baseline: Baseline;
  readonly rows: readonly Found[];
}

type Message = { progress: { done: number; total: number } } | { baseline: Baseline } | { row: Found };

/** Measures all rows of a task; `onProgress` hears of each text that a row is done with. */
export async function measure(task: Task, onProgress: (done: number, total: number) => void): Promise<Measured> {
  const { rows, ...rest } = task;
  const job = {
    ...rest,
    rows: rows.map(({ name, key, value, method, queries }) => ({ name, key, value, method, queries })),
  };
  const args = ['run', '--release', '--quiet', '-p', 'gearkv-quality'];
  const child = spawn('cargo', args, { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  child.stdin.end(JSON.stringify(job));
  const found: Found[] = [];
  let baseline: Baseline | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const message = JSON.parse(line) as Message;
    if ('progress' in message) onProgress(message.progress.done, message.progress.total);
    else if ('baseline' in message) baseline = message.baseline;
    else found.push(message.row);
  }
  const code = await ended;
  if (code !== 0 || baseline === undefined)
    throw new Error(`the harness ended with ${code}; what it said stands above`);
  return { baseline, rows: found };
}
