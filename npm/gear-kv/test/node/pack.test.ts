// The packed tarballs, installed into empty projects: what npm serves is what works.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { npm, packRelease, type Release, runProgram, type Tarball } from '../pack/staging.js';

const ENTRIES = ['index.node', 'index.web', 'native', 'wasm', 'llm', 'llm.web', 'transformers', 'ort', 'store'];
const FIXTURE = 'node_modules/gear-kv/dist/fixtures/kv_smollm2_135m.safetensors';

/** Compresses on the default backend and says what ran and how far off the result is. */
const ROUND_TRIP = `
const shape = { heads: 2, tokens: 130, headDim: 16 };
const data = Float32Array.from({ length: 2 * 130 * 16 }, (_, i) => Math.sin(i));
const packed = gear.compressSync(data, { shape, role: 'key', preset: 'uniform-8' });
const back = gear.decompressSync(packed);
const worst = Math.max(...back.map((x, i) => Math.abs(x - data[i])));
console.log(JSON.stringify({ backend: gear.backend().name, worst, ratio: packed.ratio }));
`;

let release: Release;
const projects: string[] = [];

test.before(async () => {
  release = await packRelease();
});

test.after.always(() => {
  release?.remove();
  for (const project of projects) rmSync(project, { recursive: true, force: true });
});

async function projectWith(...tarballs: Tarball[]): Promise<string> {
  const project = mkdtempSync(join(tmpdir(), 'gear-kv-project-'));
  projects.push(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true }));
  // Offline: nothing but the tarballs may be needed.
  await npm(['install', '--offline', '--ignore-scripts', ...tarballs.map(({ path }) => path)], project);
  return project;
}

async function roundTrip(project: string, name: string, importing: string) {
  writeFileSync(join(project, name), `${importing}\n${ROUND_TRIP}`);
  const result = JSON.parse(await runProgram(process.execPath, [name], project));
  return result as { backend: string; worst: number; ratio: number };
}

test('the tarball holds the bundles, their types, the wasm files and the demo, and nothing else', (t) => {
  const isType = (file: string) => file.startsWith('dist/types/');
  t.deepEqual(
    release.facade.files.filter((file) => !isType(file)),
    [
      'LICENSE',
      'README.md',
      'dist/cli.js',
      'dist/fixtures/bread.txt',
      'dist/fixtures/kv_smollm2_135m.safetensors',
      ...ENTRIES.flatMap((entry) => [`dist/${entry}.cjs`, `dist/${entry}.js`]),
      'dist/native-llm/index.cjs',
      'dist/native/index.cjs',
      'dist/plots.js',
      'dist/third-party-licences.txt',
      'dist/wasm-llm/gearkv_wasm_llm_bg.wasm',
      'dist/wasm/gearkv_wasm_bg.wasm',
      'package.json',
    ].sort(),
  );
  const types = release.facade.files.filter(isType);
  for (const entry of ENTRIES) t.true(types.includes(`dist/types/${entry}.d.ts`), entry);
  t.deepEqual(
    types.filter((file) => file.endsWith('.d.ts')).map((file) => file.replace(/\.d\.ts$/, '')),
    types.filter((file) => file.endsWith('.d.cts')).map((file) => file.replace(/\.d\.cts$/, '')),
  );
  t.true(types.every((file) => /\.d\.c?ts$/.test(file)));
});

test('what draws plots needs nothing but itself, and the licences of what is in it are there', async (t) => {
  const project = await projectWith(release.facade);
  const plot = {
    id: 'p',
    title: 'p',
    kind: 'bars',
    x: { key: 'x', title: 'x' },
    y: { key: 'y', title: 'y' },
    rows: [{ x: 'a', y: 1 }],
  };
  const source = `import { draw } from './node_modules/gear-kv/dist/plots.js';
    console.log(await draw(${JSON.stringify(plot)}, 'wide'));`;
  writeFileSync(join(project, 'draw.mjs'), source);
  t.regex(await runProgram(process.execPath, ['draw.mjs'], project), /^<svg /);
  const licences = readFileSync(join(project, 'node_modules/gear-kv/dist/third-party-licences.txt'), 'utf8');
  for (const name of ['vega-lite', 'd3-scale', 'Redistributions in binary form']) t.true(licences.includes(name), name);
});

test('each platform package holds its native module alone', (t) => {
  const abi = release.platformName.replace(/^gear-kv-/, '');
  t.is(release.engineName, `gear-kv-llm-${abi}`);
  t.deepEqual(release.platform.files, ['README.md', `gear-kv.${abi}.node`, 'package.json'].sort());
  t.deepEqual(release.engine.files, ['README.md', `gear-kv-llm.${abi}.node`, 'package.json'].sort());
});

test('the engine comes with its own package, and only what asks for it misses it', async (t) => {
  const source = `import { GearModel } from 'gear-kv/llm';
    await GearModel.load(new Uint8Array(8)).catch(({ code, message }) => console.log(code, message));`;
  const load = async (project: string): Promise<string> => {
    writeFileSync(join(project, 'load.mjs'), source);
    return runProgram(process.execPath, ['load.mjs'], project);
  };
  t.regex(await load(await projectWith(release.facade, release.platform, release.engine)), /^CORRUPT_DATA /);
  const without = await projectWith(release.facade, release.platform);
  t.regex(await load(without), /^BACKEND_UNAVAILABLE the engine of gear-kv\/llm could not be loaded: .*gear-kv-llm-/);
  t.is((await roundTrip(without, 'codec.mjs', "import * as gear from 'gear-kv';")).backend, 'native');
});

test('installed with its platform package, it runs natively and in wasm, from ESM, CommonJS and the command line', async (t) => {
  const project = await projectWith(release.facade, release.platform);
  const native = [
    await roundTrip(project, 'default.mjs', "import * as gear from 'gear-kv';"),
    await roundTrip(project, 'default.cjs', "const gear = require('gear-kv');"),
    await roundTrip(project, 'native.mjs', "import * as gear from 'gear-kv/native';"),
    await roundTrip(project, 'native.cjs', "const gear = require('gear-kv/native');"),
  ];
  const wasm = [
    await roundTrip(project, 'wasm.mjs', "import * as gear from 'gear-kv/wasm';"),
    await roundTrip(project, 'wasm.cjs', "const gear = require('gear-kv/wasm');"),
  ];
  for (const { backend, worst, ratio } of [...native, ...wasm]) {
    t.true(['native', 'wasm'].includes(backend));
    t.true(worst < 0.02, `${backend}: off by ${worst}`);
    t.true(ratio > 1, `${backend}: ratio ${ratio}`);
  }
  t.deepEqual(
    [...native, ...wasm].map(({ backend }) => backend),
    ['native', 'native', 'native', 'native', 'wasm', 'wasm'],
  );
  const command = join(project, 'node_modules/.bin/gear-kv');
  await runProgram(command, ['compress', FIXTURE, 'cache.gear', '--preset', 'kivi-4'], project);
  const inspected = JSON.parse(await runProgram(command, ['inspect', 'cache.gear', '--json'], project));
  t.truthy(inspected);
  await runProgram(command, ['decompress', 'cache.gear', 'back.safetensors'], project);
});

test('without a platform package it falls back to wasm and says why', async (t) => {
  const project = await projectWith(release.facade);
  const { backend, worst } = await roundTrip(project, 'fallback.mjs', "import * as gear from 'gear-kv';");
  t.is(backend, 'wasm');
  t.true(worst < 0.02);
  const source = "import { backend } from 'gear-kv'; console.log(backend().fallbackReason);";
  writeFileSync(join(project, 'reason.mjs'), source);
  t.regex(await runProgram(process.execPath, ['reason.mjs'], project), /native module could not be loaded/);
});

test('its types hold in strict ESM and CommonJS projects', async (t) => {
  const project = await projectWith(release.facade);
  const source = `import { type CompressedTensor, compressSync, GearError, type KvShape } from 'gear-kv';
import { freezeTensors } from 'gear-kv/ort';
import { type FrozenPrefix, GearDynamicCache } from 'gear-kv/transformers';
import { FileStore, PromptCache, type Store } from 'gear-kv/store';
import { GearCache } from 'gear-kv/wasm';
const shape: KvShape = { heads: 1, tokens: 1, headDim: 8 };
export const packed: CompressedTensor = compressSync(new Float32Array(8), { shape, role: 'key' });
export const cache: GearCache = new GearCache({ layers: 1, kvHeads: 1, headDim: 8 });
export const code: string = new GearError('DISPOSED', 'x').code;
export const prefix: Promise<FrozenPrefix> = freezeTensors({}, { preset: 'gear-4', tokenIds: [1n] });
const store: Store = new FileStore('prompts');
export const prompts: PromptCache = new PromptCache({ store, model: 'm', maxBytes: 1, key: new Uint8Array(32) });
export const dynamic: GearDynamicCache = new GearDynamicCache({ preset: 'gear-4' });
// @ts-expect-error: there is no such role, and types that hold say so
compressSync(new Float32Array(8), { shape, role: 'query' });
`;
  mkdirSync(join(project, 'src'));
  for (const name of ['module.mts', 'common.cts']) writeFileSync(join(project, 'src', name), source);
  const compilerOptions = {
    module: 'NodeNext',
    target: 'ES2022',
    lib: ['ES2023', 'ESNext.Disposable', 'DOM'],
    strict: true,
    exactOptionalPropertyTypes: true,
    types: [],
    noEmit: true,
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['src'] }));
  const tsc = fileURLToPath(new URL('../../../../node_modules/typescript/bin/tsc', import.meta.url));
  t.is(await runProgram(process.execPath, [tsc, '-p', 'tsconfig.json'], project), '');
});
