// The experiment that holds presets against H2O.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { emptyFolder, gearKv } from '../node/command.js';
import { modelPath, withModel } from './talking.js';

interface Found {
  tables: { id: string; rows: Record<string, number | string | null>[] }[];
  plots: { id: string; rows: Record<string, number | string | null>[] }[];
  summary: string[];
}

/** Two short questions, so that each run takes seconds. */
function questions(folder: string): string {
  const file = join(folder, 'questions.jsonl');
  const lines = ['Ann has 3 apples and buys 4 more. How many apples has she now?', 'What is 12 times 3?'];
  const answers = ['3 + 4 = 7. The answer is 7.', '12 * 3 = 36. The answer is 36.'];
  writeFileSync(file, lines.map((question, i) => `${JSON.stringify({ question, answer: answers[i] })}\n`).join(''));
  return file;
}

async function experiment(name: string, folder: string, ...flags: string[]): Promise<Found> {
  const args = ['--model', modelPath as string, '--data', questions(folder), '--out', join(folder, name)];
  const { code, stdout, stderr } = await gearKv('experiment', name, ...args, '--max-tokens', '40', '--json', ...flags);
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Found;
}

const journal = (folder: string, name: string): string[] =>
  readFileSync(join(folder, name, 'journal.jsonl'), 'utf8')
    .trimEnd()
    .split('\n');

withModel('dropping: H2O beside presets, each at its size, and resumed without computing again', async (t) => {
  const folder = emptyFolder();
  const found = await experiment('dropping', folder, '--preset', 'gear-4');
  const [table] = found.tables;
  const names = table?.rows.map(({ cache }) => cache);
  t.deepEqual(names, ['gear-4', 'H2O, 75 % kept', 'H2O, 50 % kept', 'H2O, 25 % kept']);
  const [gear, , , quarter] = table?.rows ?? [];
  t.true(Math.abs(Number(quarter?.['bits']) - 4) < 0.2, String(quarter?.['bits']));
  t.true(Number(gear?.['kl']) < Number(quarter?.['kl']));
  t.true(Number(quarter?.['until']) >= 1);
  t.is(found.summary.length, 3);
  const written = journal(folder, 'dropping');
  t.is(written.length, 3);
  // The last unit is done again, the others are not.
  writeFileSync(join(folder, 'dropping/journal.jsonl'), `${written.slice(0, 2).join('\n')}\n`);
  t.deepEqual((await experiment('dropping', folder, '--preset', 'gear-4')).tables, found.tables);
  t.is(journal(folder, 'dropping')[1], written[1]);
});

withModel('error: every layer of every preset, and the steps behind the prompt', async (t) => {
  const folder = emptyFolder();
  const { tables, plots } = await experiment('error', folder, '--preset', 'gear-4,kivi-2');
  const rows = tables.find(({ id }) => id === 'errors')?.rows ?? [];
  t.deepEqual(
    rows.map(({ cache }) => cache),
    ['gear-4', 'kivi-2'],
  );
  for (const part of ['key', 'value', 'attention']) {
    const [four = Number.NaN, two = Number.NaN] = rows.map((row) => Number(row[part]));
    t.true(four > 0 && two > four && two < 1, `${part}: ${four}, ${two}`);
  }
  t.is(tables.find(({ id }) => id === 'layers')?.rows.length, 30);
  t.is(plots.find(({ id }) => id === 'attention')?.rows.length, 60);
  const steps = plots.find(({ id }) => id === 'growth')?.rows ?? [];
  t.deepEqual([...new Set(steps.map(({ step }) => step))], [16, 32]);
});
