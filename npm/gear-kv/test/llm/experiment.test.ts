// An experiment on a model, from the command line.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { emptyFolder, gearKv, packageFolder } from '../node/command.js';
import { model, modelPath, story, withModel } from './talking.js';

const path = modelPath ?? '';

function questions(): string {
  const file = join(emptyFolder(), 'capitals.jsonl');
  const capitals = { France: 'Paris', Italy: 'Rome' };
  const lines = Object.entries(capitals).map(([country, city]) => ({
    question: `${story}\n\nWhat is the capital of ${country}?`,
    answer: city,
  }));
  writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return file;
}

withModel('experiment writes a report, and the same command has nothing left to do', async (t) => {
  const folder = join(emptyFolder(), 'out');
  const data = questions();
  const args = ['experiment', 'zero-shot', '--model', path, '--data', data, '--max-tokens', '12'];
  const options = ['--preset', 'uniform-8,kivi-2', '--out', folder];
  const first = await gearKv(...args, ...options, '--json');
  t.is(first.code, 0, first.stderr);
  const findings = JSON.parse(first.stdout);
  t.deepEqual(findings, JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')));
  const [table] = findings.tables;
  t.deepEqual(
    table.rows.map(({ cache }: { cache: string }) => cache),
    ['float16', 'uniform-8', 'kivi-2'],
  );
  const [exact, eight, two] = table.rows;
  t.is(exact.identical, 1);
  t.is(exact.until, eight.until);
  t.true(eight.kl < two.kl && eight.kl >= 0);
  t.true(two.bits < 3 && eight.bits > 8);
  t.false(findings.command.includes(folder) || findings.command.includes(data));
  const journal = readFileSync(join(folder, 'journal.jsonl'), 'utf8');
  const again = await gearKv(...args, ...options);
  t.is(again.code, 0, again.stderr);
  t.is(readFileSync(join(folder, 'journal.jsonl'), 'utf8'), journal);
  t.regex(again.stdout, /Report: .*report\.html/);
  const other = await gearKv(...args, '--preset', 'kivi-2', '--out', folder);
  t.is(other.code, 1);
  t.regex(other.stderr, /holds an experiment whose presets/);
});

withModel('more examples are added to those that are done, and fewer are taken from them', async (t) => {
  const folder = join(emptyFolder(), 'out');
  const args = ['experiment', 'zero-shot', '--model', path, '--data', questions(), '--max-tokens', '8'];
  const options = ['--preset', 'kivi-4', '--out', folder];
  const run = async (limit: string): Promise<{ examples: unknown; journal: string }> => {
    const { code, stdout, stderr } = await gearKv(...args, ...options, '--limit', limit, '--json');
    t.is(code, 0, stderr);
    const examples = JSON.parse(stdout).tables[0].rows[0].examples;
    return { examples, journal: readFileSync(join(folder, 'journal.jsonl'), 'utf8') };
  };
  const one = await run('1');
  const two = await run('2');
  t.is(one.examples, 1);
  t.is(two.examples, 2);
  t.not(two.journal, one.journal);
  t.true(two.journal.startsWith(one.journal));
  t.deepEqual(await run('1'), { examples: 1, journal: two.journal });
});

withModel('killed in the middle, an experiment goes on with what is left', async (t) => {
  const folder = join(emptyFolder(), 'out');
  const args = ['experiment', 'zero-shot', '--model', path, '--data', questions(), '--max-tokens', '8'];
  const options = ['--preset', 'kivi-4', '--out', folder];
  const lines = (): string[] => {
    const journal = join(folder, 'journal.jsonl');
    return existsSync(journal) ? readFileSync(journal, 'utf8').trim().split('\n') : [];
  };
  const child = spawn(process.execPath, [join(packageFolder, 'dist/cli.js'), ...args, ...options], { stdio: 'ignore' });
  const ended = once(child, 'exit');
  // The first line says what the experiment is, the second what the first question came to.
  while (lines().length < 2 && child.exitCode === null) await setTimeout(10);
  child.kill('SIGKILL');
  await ended;
  const before = lines().slice(0, 2);
  t.is(before.length, 2);
  const { code, stderr } = await gearKv(...args, ...options);
  t.is(code, 0, stderr);
  t.deepEqual(lines().slice(0, 2), before);
  t.is(lines().length, 3);
});

withModel('one exact prefill gives a cache without queries what its own prefill gives', async (t) => {
  const talking = await model();
  const tokens = talking.tokenize('The quick brown fox jumps over the lazy dog. '.repeat(12));
  using exact = talking.session({ cache: 'float32' });
  await exact.read(tokens);
  using shared = await exact.recompress({ cache: 'kivi-2' });
  using own = talking.session({ cache: 'kivi-2' });
  await own.read(tokens);
  t.deepEqual(shared.tokens, own.tokens);
  const next = talking.tokenize(' Then', { addBos: false });
  const [a, b] = [shared.goOn(next, { maxTokens: 12 }), own.goOn(next, { maxTokens: 12 })];
  t.is(await a.text(), await b.text());
});

withModel('system: sizes, speed and what fits a budget', async (t) => {
  const folder = join(emptyFolder(), 'out');
  const args = ['--model', path, '--context', '160', '--limit', '1', '--budget', '5', '--preset', 'kivi-2'];
  const { code, stdout, stderr } = await gearKv('experiment', 'system', ...args, '--out', folder, '--json');
  t.is(code, 0, stderr);
  const { tables } = JSON.parse(stdout);
  const rows = (id: string): Record<string, number>[] => tables.find((table: { id: string }) => table.id === id).rows;
  const [exact, two] = rows('memory') as [Record<string, number>, Record<string, number>];
  t.true((two['cacheBytes'] ?? 0) < (exact['cacheBytes'] ?? 0));
  for (const row of rows('time')) {
    const shares = ['matmul', 'attention', 'compression', 'other'].map((part) => row[part] ?? Number.NaN);
    t.true(Math.abs(shares.reduce((sum, share) => sum + share, 0) - 1) < 1e-6);
  }
  const [few, many] = rows('budget') as [Record<string, number>, Record<string, number>];
  // What fits takes no more than the budget, and one more would.
  const bytes = exact['cacheBytes'] ?? 0;
  t.is(few['batch'], Math.floor(5e6 / bytes));
  t.true((many['batch'] ?? 0) >= (few['batch'] ?? 0) && (many['longest'] ?? 0) > (few['longest'] ?? 0));
  t.regex(stderr, /done/);
});
