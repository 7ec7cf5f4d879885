// The command's compress, decompress and inspect, on files.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import * as gear from 'gear-kv';
import { halfBits, kvNumbers, relativeError, widened } from '../suite/numbers.js';
import { emptyFolder, gearKv, modelFile } from './command.js';
import { bytesOf, readSafetensors, type SafetensorsFile, writeSafetensors } from './safetensors.js';

const shape = { heads: 2, tokens: 100, headDim: 32 };
const numbers = kvNumbers(shape);
const dimensions = [2, 100, 32];

/** The upper half of float32 is bfloat16. */
const brainFloats = (floats: Float32Array): Uint16Array =>
  Uint16Array.from(new Uint32Array(floats.slice().buffer), (bits) => bits >>> 16);
const fromBrainFloats = (bits: Uint16Array): Float32Array =>
  new Float32Array(Uint32Array.from(bits, (half) => half << 16).buffer);

const weights = new Float32Array([1, 2, 3, 4, 5, 6]);
const mixed: SafetensorsFile = {
  metadata: { model: 'tiny', format: 'pt' },
  tensors: {
    'past_key_values.0.key': { dtype: 'F32', shape: dimensions, bytes: bytesOf(numbers) },
    'past_key_values.0.value': { dtype: 'F16', shape: [1, ...dimensions], bytes: bytesOf(halfBits(numbers)) },
    'layers.1.k': { dtype: 'BF16', shape: dimensions, bytes: bytesOf(brainFloats(numbers)) },
    'layers.1.v': { dtype: 'F32', shape: [2, 2, 50, 32], bytes: bytesOf(numbers) },
    weights: { dtype: 'F32', shape: [2, 3], bytes: bytesOf(weights) },
    'key.flags': { dtype: 'BOOL', shape: [1, 1, 3], bytes: new Uint8Array([1, 0, 1]) },
    query: { dtype: 'F16', shape: dimensions, bytes: bytesOf(halfBits(numbers)) },
  },
};

function folderWith(name: string, bytes: Uint8Array | string): { folder: string; input: string; output: string } {
  const folder = emptyFolder();
  const input = join(folder, name);
  writeFileSync(input, bytes);
  return { folder, input, output: join(folder, 'out.gear') };
}

test('a file of mixed tensors: K and V come back nearly, the rest exactly', async (t) => {
  const { folder, input, output } = folderWith('in.safetensors', writeSafetensors(mixed));
  const compressed = await gearKv('compress', input, output, '--preset', 'uniform-8', '--json');
  t.is(compressed.code, 0, compressed.stderr);
  t.is(compressed.stderr, '');
  const report = JSON.parse(compressed.stdout);
  t.deepEqual(report.tensors.map(({ name, role }: { name: string; role: string }) => [name, role]).sort(), [
    ['layers.1.k', 'key'],
    ['layers.1.v', 'value'],
    ['past_key_values.0.key', 'key'],
    ['past_key_values.0.value', 'value'],
  ]);
  t.deepEqual(report.kept.sort(), ['key.flags', 'query', 'weights']);
  t.is(report.bytesOut, readFileSync(output).length);

  const back = join(folder, 'back.safetensors');
  const decompressed = await gearKv('decompress', output, back);
  t.is(decompressed.code, 0, decompressed.stderr);
  const { tensors, metadata } = readSafetensors(readFileSync(back));
  t.deepEqual(metadata, mixed.metadata);
  t.deepEqual(Object.keys(tensors).sort(), Object.keys(mixed.tensors).sort());
  for (const [name, { dtype, shape: given, bytes }] of Object.entries(mixed.tensors)) {
    const tensor = tensors[name];
    t.is(tensor?.dtype, dtype);
    t.deepEqual(tensor?.shape, given, name);
    if (report.kept.includes(name)) t.deepEqual([...(tensor?.bytes ?? [])], [...bytes], name);
  }
  const restored = (name: string): ArrayBuffer => (tensors[name]?.bytes.buffer ?? new ArrayBuffer(0)) as ArrayBuffer;
  const all = [
    new Float32Array(restored('past_key_values.0.key')),
    widened(new Uint16Array(restored('past_key_values.0.value'))),
    fromBrainFloats(new Uint16Array(restored('layers.1.k'))),
    new Float32Array(restored('layers.1.v')),
  ];
  for (const floats of all) t.true(relativeError(floats, numbers) < 0.02);
});

test('the model: sizes, and presets for keys and values apart', async (t) => {
  const output = join(emptyFolder(), 'out.gear');
  const args = ['--key-preset', 'kivi-4', '--value-preset', 'gear-2', '--backend', 'wasm'];
  const compressed = await gearKv('compress', modelFile, output, ...args);
  t.is(compressed.code, 0, compressed.stderr);
  t.regex(compressed.stdout, /layer\.0\.key +key +3×512×64 +kivi-4/);
  t.regex(compressed.stdout, /layer\.29\.value +value +3×512×64 +gear-2/);
  t.regex(compressed.stdout, /4 other tensors kept/);

  const inspected = await gearKv('inspect', output, '--json');
  const { kind, tensors } = JSON.parse(inspected.stdout);
  t.is(kind, 'tensors');
  const [key, value] = ['layer.0.key', 'layer.0.value'].map((name) =>
    tensors.find((tensor: { name: string }) => tensor.name === name),
  );
  t.deepEqual(
    [key.preset, key.bits, key.meanBits, value.preset, value.bits, value.meanBits],
    ['kivi-4', 4, 0, 'gear-2', 2, 2.4],
  );
  t.deepEqual(key.shape, { batch: 1, heads: 3, tokens: 512, headDim: 64 });
  t.true(key.ratio > 3 && key.ratio < 4, `ratio ${key.ratio}`);
  const total = Object.values(key.parts as Record<string, number>).reduce((sum, bytes) => sum + bytes, 0);
  t.is(total, key.byteLength);

  const text = await gearKv('inspect', output);
  t.is(text.code, 0);
  t.regex(text.stdout, /layer\.0\.key +key +1×3×512×64 +kivi-4 +4 /);
  t.regex(text.stdout, /layer\.0\.value +value +1×3×512×64 +gear-2 +2\.4 /);
  t.regex(text.stdout, /layer\.0\.key +key +1×3×512×64 +kivi-4 +4 +4\.\d\d +3\.\d\d×/);
  t.regex(text.stdout, /layer\.0\.query .*kept as F16/);
});

test('inspect shows a safetensors file, too', async (t) => {
  const { code, stdout } = await gearKv('inspect', modelFile, '--json');
  t.is(code, 0);
  const { format, tensors } = JSON.parse(stdout);
  t.is(format, 'safetensors');
  t.is(tensors.length, 12);
  t.deepEqual(
    tensors.find((tensor: { name: string }) => tensor.name === 'layer.10.value'),
    {
      name: 'layer.10.value',
      role: 'value',
      dtype: 'F16',
      shape: [3, 512, 64],
      bytes: 3 * 512 * 64 * 2,
    },
  );
});

test('options of compression, and a forced role', async (t) => {
  const file = writeSafetensors({
    tensors: { anything: { dtype: 'F32', shape: dimensions, bytes: bytesOf(numbers) } },
  });
  const { input, output } = folderWith('in.safetensors', file);
  const auto = await gearKv('compress', input, output);
  t.is(auto.code, 1);
  t.regex(auto.stderr, /no K or V tensor.*--role.*INVALID_OPTION/s);
  const options = ['--bits', '3', '--group-size', '32', '--rank', '1', '--sparsity', '0.01', '--sinks', '2'];
  const forced = await gearKv('compress', input, output, '--role', 'value', '--preset', 'paper-gear-2', ...options);
  t.is(forced.code, 0, forced.stderr);
  const { tensors } = JSON.parse((await gearKv('inspect', output, '--json')).stdout);
  const { role, options: resolved } = tensors[0];
  t.is(role, 'value');
  t.deepEqual(
    [resolved.bits, resolved.groupSize, resolved.rank, resolved.sparsity, resolved.sinks],
    [3, 32, 1, 0.01, 2],
  );

  const spread = await gearKv('compress', input, output, '--role', 'value', '--mean-bits', '2.5', '--force');
  t.is(spread.code, 0, spread.stderr);
  const [{ options: dealtOut }] = JSON.parse((await gearKv('inspect', output, '--json')).stdout).tensors;
  t.deepEqual([dealtOut.preset, dealtOut.bits, dealtOut.meanBits], ['gear-4', 4, 2.5]);
});

test('a saved cache can be inspected and decompressed', async (t) => {
  const folder = emptyFolder();
  const cache = new gear.GearCache({ layers: 2, kvHeads: 2, headDim: 32, preset: 'gear-4' });
  for (const layer of [0, 1]) cache.append(layer, numbers, numbers);
  const path = join(folder, 'chat.gear');
  await cache.save(path);
  const { kind, tensors } = JSON.parse((await gearKv('inspect', path, '--json')).stdout);
  t.is(kind, 'cache');
  t.is(tensors.length, 4);
  const output = join(folder, 'chat.safetensors');
  t.is((await gearKv('decompress', path, output)).code, 0);
  const all = Object.values(readSafetensors(readFileSync(output)).tensors);
  t.is(all.length, 4);
  for (const { dtype, shape: given, bytes } of all) {
    t.deepEqual([dtype, given], ['F32', [1, 2, 100, 32]]);
    t.true(relativeError(new Float32Array(bytes.buffer as ArrayBuffer), numbers) < 0.15);
  }
});

test('an output that is there is not overwritten without --force, and nothing is left behind', async (t) => {
  const { folder, input, output } = folderWith('in.safetensors', writeSafetensors(mixed));
  writeFileSync(output, 'precious');
  const refused = await gearKv('compress', input, output);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /out\.gear exists already.*--force/);
  t.is(refused.stdout, '');
  t.is(readFileSync(output, 'utf8'), 'precious');
  t.is((await gearKv('compress', input, output, '--force')).code, 0);
  t.not(readFileSync(output, 'utf8'), 'precious');
  const back = join(folder, 'back.safetensors');
  writeFileSync(back, 'precious');
  t.is((await gearKv('decompress', output, back)).code, 1);
  t.is(readFileSync(back, 'utf8'), 'precious');
  t.deepEqual(readdirSync(folder).sort(), ['back.safetensors', 'in.safetensors', 'out.gear']);
});

test('files that are missing, damaged or of another kind', async (t) => {
  const file = writeSafetensors(mixed);
  const { folder, input, output } = folderWith('in.safetensors', file);
  const failing = async (message: RegExp, ...args: string[]): Promise<void> => {
    const { code, stdout, stderr } = await gearKv(...args);
    t.is(code, 1, args.join(' '));
    t.is(stdout, '');
    t.regex(stderr, message);
    t.false(/^ +at /m.test(stderr), `a stack trace: ${stderr}`);
  };
  await failing(/nowhere.*ENOENT.*IO_FAILED/s, 'compress', join(folder, 'nowhere'), output);
  await failing(/IO_FAILED/, 'compress', input, join(folder, 'no/such/folder/out.gear'));
  await failing(/IO_FAILED/, 'inspect', folder);
  await failing(/preset is "gear-9".*INVALID_OPTION/, 'compress', input, output, '--preset', 'gear-9');

  t.is((await gearKv('compress', input, output)).code, 0);
  await failing(/compressed already/, 'compress', output, join(folder, 'twice.gear'));
  await failing(/CORRUPT_DATA/, 'decompress', input, join(folder, 'back'));
  const damaged = readFileSync(output);
  damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
  for (const [name, bytes] of Object.entries({
    'cut.gear': damaged.subarray(0, 1000),
    'flipped.gear': damaged,
    'empty.gear': new Uint8Array(),
    'text.gear': new TextEncoder().encode('not a cache, just text that is long enough to be one'),
    'cut.safetensors': file.subarray(0, 900),
  })) {
    const path = join(folder, name);
    writeFileSync(path, bytes);
    await failing(/CORRUPT_DATA/, 'decompress', path, join(folder, 'never'));
    await failing(/CORRUPT_DATA/, 'inspect', path);
    await failing(/CORRUPT_DATA/, 'compress', path, join(folder, 'never'));
  }

  const bad = numbers.slice();
  bad[40] = Number.NaN;
  const nan = join(folder, 'nan.safetensors');
  writeFileSync(
    nan,
    writeSafetensors({ tensors: { 'layer.0.key': { dtype: 'F32', shape: dimensions, bytes: bytesOf(bad) } } }),
  );
  await failing(/layer\.0\.key: .*token 1, channel 8.*NOT_FINITE/, 'compress', nan, join(folder, 'never'));
  t.false(readdirSync(folder).includes('never'));
  t.is((await gearKv('compress', nan, join(folder, 'mended.gear'), '--non-finite', 'replace')).code, 0);
});
