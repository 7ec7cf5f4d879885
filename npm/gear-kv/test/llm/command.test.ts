// The commands that run a model, and `npm start`.

import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { emptyFolder, gearKv, packageFolder, ran, repository } from '../node/command.js';
import { model, modelPath, story, withModel } from './talking.js';

const path = modelPath ?? '';

function fileWith(name: string, text: string): string {
  const file = join(emptyFolder(), name);
  writeFileSync(file, text);
  return file;
}

withModel('generate prints the answer; --json the figures with it', async (t) => {
  const args = ['--model', path, '--max-tokens', '12', `${story}\n\nWhat is the capital of France?`];
  const plain = await gearKv('generate', ...args, '--preset', 'gear-2');
  t.is(plain.code, 0, plain.stderr);
  t.regex(plain.stdout, /Paris/);
  const { stdout, code } = await gearKv(
    'generate',
    ...args,
    '--json',
    '--key-preset',
    'float16',
    '--value-preset',
    'gear-4',
  );
  t.is(code, 0);
  const answer = JSON.parse(stdout);
  t.regex(answer.text, /Paris/);
  t.true(answer.memory.peak >= answer.memory.model && answer.memory.model > 50e6);
  t.true(answer.cache.byteLength < answer.cache.float16ByteLength);
  t.is(answer.cache.tokens, answer.promptTokens + answer.tokens.length);
});

withModel('chat: a turn a line, each on top of those before', async (t) => {
  const child = spawn(process.execPath, [
    join(packageFolder, 'dist/cli.js'),
    'chat',
    '--model',
    path,
    '--max-tokens',
    '24',
  ]);
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  child.stdin.end('My name is Ada. Say hello to me.\nWhat is my name?\n');
  const code = await new Promise((resolve) => child.on('close', resolve));
  t.is(code, 0, stderr);
  const answers = stdout.trim().split('\n');
  t.true(answers.length >= 2 && answers.every((answer) => answer.length > 1), stdout);
  const figures = [...stderr.matchAll(/\[(\d+) tokens in .*B, .*B as float16, .* tokens\/s\]/g)].map(([, tokens]) =>
    Number(tokens),
  );
  t.is(figures.length, 2, stderr);
  t.true((figures[1] ?? 0) > (figures[0] ?? 0) + 10, 'the second turn comes on top of the first');
});

withModel('perplexity of a file', async (t) => {
  const file = fileWith('story.txt', story);
  const { code, stdout, stderr } = await gearKv(
    'perplexity',
    file,
    '--model',
    path,
    '--preset',
    'float16,gear-2',
    '--json',
  );
  t.is(code, 0, stderr);
  const [exact, rough] = JSON.parse(stdout);
  t.deepEqual([exact.preset, rough.preset], ['float16', 'gear-2']);
  t.true(exact.perplexity < 30 && rough.perplexity !== exact.perplexity);
  const table = await gearKv('perplexity', file, '--model', path, '--preset', 'float16');
  t.regex(table.stdout, /^float16 +\d+\.\d{3} +\d+$/m);
});

withModel('eval on windows of token ids', async (t) => {
  const ids = [...(await model()).tokenize(story.repeat(2))];
  const file = fileWith(
    'windows.json',
    JSON.stringify({ promptTokens: 128, continuationTokens: 80, tokenIds: [ids.slice(0, 209), ids.slice(50, 259)] }),
  );
  const args = ['--windows', file, '--model', path, '--preset', 'kivi-2,gear-4'];
  const { code, stdout, stderr } = await gearKv('eval', ...args, '--json');
  t.is(code, 0, stderr);
  const rows = JSON.parse(stdout);
  t.deepEqual(Object.keys(rows[0]), ['preset', 'bitsPerElement', 'decodeBitsPerElement', 'kl', 'top1', 'perplexity']);
  t.true(rows[0].preset === 'kivi-2' && rows[1].kl < rows[0].kl);
  const table = await gearKv('eval', ...args, '--limit', '1');
  t.regex(table.stdout, /^1 windows? of 128 \+ 80 tokens/m);
  t.regex(table.stdout, /^gear-4 +\d\.\d\d +\d\.\d\d +[\d.e-]+ +\d+\.\d % +\d+\.\d+$/m);
});

withModel('tune finds bits for each layer, and eval measures them', async (t) => {
  const ids = [...(await model()).tokenize(story)].slice(0, 90);
  const file = fileWith('few.json', JSON.stringify({ promptTokens: 80, continuationTokens: 4, tokenIds: [ids] }));
  const out = join(emptyFolder(), 'bits.json');
  const tune = ['tune', '--model', path, '--windows', file, '--preset', 'gear-2', '--out', out];
  const { code, stdout, stderr } = await gearKv(...tune);
  t.is(code, 0, stderr);
  t.regex(stdout, /^ *29 +[+-]?\d\.\d\d +[+-]?\d\.\d\d +\S+ +\S+$/m);
  t.true(stdout.endsWith(`Use it with --layer-bits ${out}.\n`), stdout);
  const again = await gearKv(...tune);
  t.is(again.code, 1);
  t.regex(again.stderr, /exists already/);
  const args = ['--windows', file, '--model', path, '--preset', 'gear-2,kivi-2', '--layer-bits'];
  const rows = JSON.parse((await gearKv('eval', ...args, out, '--json')).stdout);
  t.deepEqual(
    rows.map(({ preset }: { preset: string }) => preset),
    ['gear-2', 'gear-2 tuned', 'kivi-2'],
  );
  const wrong = await gearKv('eval', ...args, file);
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /no key\.layerBits and value\.layerBits/);
});

withModel('compare: three answers, their agreement, memory and speed', async (t) => {
  const prompt = fileWith('prompt.txt', `${story}\n\nWho climbed the steps?`);
  const { code, stdout, stderr } = await gearKv('compare', '--model', path, '--prompt', prompt, '--max-tokens', '10');
  t.is(code, 0, stderr);
  t.regex(stdout, /── float16 ──\n.*keeper.*\n\n── gear-4 ──\n.*keeper.*\n\n── gear-2 ──\n/s);
  t.regex(stdout, /^gear-4 +[\d.]+ .B +\d+\.\d % +\+[\d.]+ .?B +\d+ +\d+\.\d +\d+ of \d+ +\d+\.\d % +\S+$/m);
  t.regex(stdout, /gear-2 keeps the conversation in \d+\.\d % of float16/);
});

const start = join(repository, 'scripts/start.mjs');

withModel('npm start: it talks, and --json prints JSON alone', async (t) => {
  const prompt = ['--max-tokens', '4', '--prompt', fileWith('prompt.txt', story)];
  const { code, stdout, stderr } = await ran(process.execPath, [
    start,
    '--model',
    path,
    '--preset',
    'gear-4',
    ...prompt,
  ]);
  t.is(code, 0, stderr);
  t.regex(stdout, /── float16 ──.*── gear-4 ──/s);
  const quiet = await ran(process.execPath, [start, `--model=${path}`, '--json', ...prompt]);
  t.is(quiet.code, 0, quiet.stderr);
  const rows = JSON.parse(quiet.stdout);
  t.deepEqual(
    rows.map(({ preset }: { preset: string }) => preset),
    ['float16', 'gear-4', 'gear-2'],
  );
  t.true(rows[2].cacheShare < rows[1].cacheShare && rows[1].peakBytes > 0);
  t.regex(quiet.stderr, /answering .* on gear-2/);
});

test('npm start without a model: the demo on the recorded cache, and why', async (t) => {
  const env = { GEARKV_MODEL: '/nowhere/model.gguf' };
  const { code, stdout, stderr } = await ran(process.execPath, [start], { env });
  t.is(code, 0, stderr);
  t.regex(stderr, /\/nowhere\/model\.gguf.*IO_FAILED/);
  t.regex(stderr, /No model can be reached.*demo/);
  t.regex(stdout, /^gear-4 keeps this cache in|^.* keeps this cache in/m);
});

test('a model that is not there: exit code 1, and what to do', async (t) => {
  for (const command of [
    ['generate', 'x'],
    ['chat'],
    ['perplexity', join(repository, 'README.md')],
    ['compare'],
    ['fetch'],
  ]) {
    const { code, stdout, stderr } = await gearKv(...command, '--model', '/nowhere/model.gguf');
    t.is(code, 1, command.join(' '));
    t.is(stdout, '');
    t.regex(stderr, /\/nowhere\/model\.gguf.*IO_FAILED/);
  }
  const { code, stderr } = await gearKv('eval');
  t.is(code, 2);
  t.regex(stderr, /--windows is missing/);
});

withModel('fetch prints the path', async (t) => {
  const { code, stdout } = await gearKv('fetch', '--model', path);
  t.deepEqual([code, stdout], [0, `${path}\n`]);
});
