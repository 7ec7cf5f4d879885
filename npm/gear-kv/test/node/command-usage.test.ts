// The command's help, wrong usage, and the demo.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { presets } from '../suite/presets.js';
import { gearKv, packageFolder } from './command.js';

const codecCommands = ['compress', 'decompress', 'inspect', 'demo'];
const modelCommands = ['chat', 'generate', 'perplexity', 'eval', 'compare', 'fetch'];

test('--help and --version', async (t) => {
  const all = await gearKv('--help');
  t.is(all.code, 0);
  for (const name of [...codecCommands, ...modelCommands]) {
    t.regex(all.stdout, new RegExp(`^  ${name} +[A-Z]`, 'm'));
    const one = await gearKv(name, '--help');
    t.is(one.code, 0);
    t.is(one.stderr, '');
    t.regex(one.stdout, new RegExp(`Usage: gear-kv ${name}`));
    t.regex(one.stdout, name === 'chat' ? /--model .*\n(.*\n)*.*--help/ : /--json .*\n(.*\n)*.*--help/);
  }
  const { version } = JSON.parse(readFileSync(join(packageFolder, 'package.json'), 'utf8'));
  t.is((await gearKv('--version')).stdout, `${version}\n`);
});

test('wrong usage: exit code 2, a message, and nothing on standard output', async (t) => {
  const wrong: [string[], RegExp][] = [
    [[], /Usage/],
    [['shrink'], /no command 'shrink'; expected compress/],
    [['constructor'], /no command 'constructor'/],
    [['compress', 'one'], /takes <in\.safetensors> <out\.gear>; 1 given/],
    [['inspect', 'a', 'b'], /takes <file>; 2 given/],
    [['demo', 'extra'], /takes no file/],
    [['compress', 'a', 'b', '--level', '9'], /--level/],
    [['compress', 'a', 'b', '--bits'], /--bits/],
    [['compress', 'a', 'b', '--bits', 'four'], /--bits is 'four'; expected a number/],
    [['compress', 'a', 'b', '--role', 'query'], /--role is 'query'/],
    [['inspect', 'a', '--backend', 'gpu'], /--backend is 'gpu'/],
    [['demo', '--preset', 'gear-9'], /--preset is 'gear-9'; expected gear-4/],
  ];
  for (const [args, message] of wrong) {
    const { code, stdout, stderr } = await gearKv(...args);
    t.is(code, 2, args.join(' '));
    t.is(stdout, '');
    t.regex(stderr, message);
  }
});

interface Row {
  preset: string;
  backend: string;
  bitsPerElement: number;
  ratio: number;
  keyError: number;
  valueError: number;
  attentionError: number;
  compressGBps: number;
  decompressGBps: number;
}

test('demo --json: every preset on both backends, and figures that can be true', async (t) => {
  const { code, stdout, stderr } = await gearKv('demo', '--json');
  t.is(code, 0, stderr);
  const rows = JSON.parse(stdout) as Row[];
  const expected = ['native', 'wasm'].flatMap((backend) => presets.map((preset) => `${preset} ${backend}`));
  t.deepEqual(rows.map(({ preset, backend }) => `${preset} ${backend}`).sort(), expected.sort());
  const find = (preset: string, backend = 'native'): Row =>
    rows.find((r) => r.preset === preset && r.backend === backend) as Row;
  for (const row of rows) {
    t.deepEqual(Object.keys(row), Object.keys(find('gear-4')));
    t.true(Math.abs(row.bitsPerElement * row.ratio - 16) < 1e-9);
    t.true(row.compressGBps > 0 && row.decompressGBps > 0);
    if (row.preset.startsWith('float')) continue;
    t.true(row.ratio > 1 && row.ratio < 8, `${row.preset} ${row.ratio}`);
    for (const error of [row.keyError, row.valueError, row.attentionError])
      t.true(error > 0 && error < 1.9, row.preset);
  }
  const exact = find('float32');
  t.deepEqual([exact.keyError, exact.valueError, exact.attentionError], [0, 0, 0]);
  t.true(find('float16').attentionError < 0.001);
  t.true(find('gear-4').attentionError < find('uniform-4').attentionError);
  t.true(find('gear-2').attentionError < find('kivi-2').attentionError);
  // The same bytes on both backends; sums of attention may be taken in another order.
  for (const preset of presets) {
    const [native, wasm] = [find(preset), find(preset, 'wasm')];
    t.deepEqual(
      [native.ratio, native.keyError, native.valueError],
      [wasm.ratio, wasm.keyError, wasm.valueError],
      preset,
    );
    t.true(Math.abs(native.attentionError - wasm.attentionError) < 1e-4, preset);
  }
});

test('demo: a table and a sentence', async (t) => {
  const { code, stdout } = await gearKv('demo', '--backend', 'wasm', '--preset', 'gear-4', '--preset', 'gear-2');
  t.is(code, 0);
  t.regex(
    stdout,
    /^preset +bits\/element +of float16 +K error +V error +attention +compress GB\/s +decompress GB\/s$/m,
  );
  t.regex(stdout, /^gear-4 +\d\.\d\d +\d\d\.\d % +0\.0\d+ +0\.0\d+ +0\.0\d+ +\d+\.\d\d +\d+\.\d\d$/m);
  t.regex(stdout, /^gear-4 keeps this cache in \d+\.\d % .* by \d\.\d %, the least .*; gear-2, the smallest, .*\.\n$/m);
});
