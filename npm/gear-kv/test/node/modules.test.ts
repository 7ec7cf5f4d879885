// The package as other code loads it: every entry point, as ES module and as CommonJS, in processes of their own.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import init, * as fromNode from 'gear-kv';
import * as fromWasm from 'gear-kv/wasm';
import { explainTraps, gearError } from '../../src/backend/failure.js';
import { refuses, rejects, sameBits } from '../suite/support.js';
import { emptyFolder, packageFolder, ran, repository } from './command.js';

const require = createRequire(import.meta.url);
const shape = { heads: 1, tokens: 70, headDim: 16 };
const numbers = Float32Array.from({ length: 70 * 16 }, (_, i) => (i % 37) / 8);
const options = { shape, role: 'key' } as const;

const REPORT = `
  const shape = { heads: 1, tokens: 70, headDim: 16 };
  const packed = gear.compressSync(new Float32Array(70 * 16).fill(1), { shape, role: 'key' });
  let code;
  try { gear.compressSync(new Float32Array(1), { shape, role: 'key' }); } catch (error) {
    code = error instanceof gear.GearError && error.code;
  }
  console.log(JSON.stringify({
    backend: gear.backend(), used: packed.backend, init: typeof gear.default, code,
    names: [gear.GearError.name, gear.GearCache.name, gear.CompressedTensor.name],
  }));`;

interface Report {
  backend: fromNode.BackendInfo;
  used: string;
  init: string;
  code: string;
  names: string[];
}

async function reported(source: string, env: object = {}, conditions: string[] = []): Promise<Report> {
  const { code, stdout, stderr } = await ran(process.execPath, [...conditions, '--input-type=module', '-e', source], {
    env,
  });
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as Report;
}

const imported = (entry: string): string => `import * as gear from '${entry}'; ${REPORT}`;
const required = (entry: string): string =>
  `import { createRequire } from 'node:module'; const gear = createRequire(process.cwd() + '/')('${entry}'); ${REPORT}`;

for (const [entry, backend] of [
  ['gear-kv', 'native'],
  ['gear-kv/native', 'native'],
  ['gear-kv/wasm', 'wasm'],
] as const) {
  for (const [way, source] of Object.entries({ import: imported(entry), require: required(entry) })) {
    test(`${way} ${entry}`, async (t) => {
      const report = await reported(source);
      t.deepEqual([report.backend.name, report.used], [backend, backend]);
      t.is(report.init, 'function');
      t.is(report.code, 'SHAPE_MISMATCH');
      t.deepEqual(report.names, ['GearError', 'GearCache', 'CompressedTensor']);
    });
  }
}

test('a browser gets the WebAssembly build, and a bundler finds the file beside it', async (t) => {
  const report = await reported(imported('gear-kv'), {}, ['--conditions=browser']);
  t.is(report.backend.name, 'wasm');
  const bundle = readFileSync(join(packageFolder, 'dist/index.web.js'), 'utf8');
  t.regex(bundle, /new URL\(["']\.\/wasm\/gearkv_wasm_bg\.wasm["'], import\.meta\.url\)/);
  t.true(existsSync(join(packageFolder, 'dist/wasm/gearkv_wasm_bg.wasm')));
  t.false(/^\s*import .*["']node:/m.test(bundle), 'the build for browsers imports a module of Node');
});

test('GEARKV_BACKEND chooses', async (t) => {
  t.is((await reported(imported('gear-kv'), { GEARKV_BACKEND: 'wasm' })).backend.name, 'wasm');
  t.is((await reported(required('gear-kv'), { GEARKV_BACKEND: 'native' })).backend.name, 'native');
  t.is((await reported(imported('gear-kv/wasm'), { GEARKV_BACKEND: 'native' })).backend.name, 'wasm');
  const error = await t.throwsAsync(reported(imported('gear-kv'), { GEARKV_BACKEND: 'gpu' }));
  t.regex(error?.message ?? '', /GEARKV_BACKEND is 'gpu'/);
});

test('without the native module Node falls back to WebAssembly and says why', async (t) => {
  // The loader of napi-rs takes this path and no other.
  const env = { NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere/gear-kv.node' };
  const copy = emptyFolder();
  for (const file of ['index.node.js', 'native.js', 'wasm/gearkv_wasm_bg.wasm']) {
    const from = readFileSync(join(packageFolder, 'dist', file));
    mkdirSync(join(copy, 'wasm'), { recursive: true });
    writeFileSync(join(copy, file), from);
  }
  writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
  const { backend } = await reported(imported(pathToFileURL(join(copy, 'index.node.js')).href), env);
  t.is(backend.name, 'wasm');
  t.regex(backend.fallbackReason ?? '', /native module could not be loaded: .*native.*Reinstall/s);
  const error = await t.throwsAsync(reported(imported(pathToFileURL(join(copy, 'native.js')).href), env));
  t.regex(error?.message ?? '', /BACKEND_UNAVAILABLE/);
});

test('nothing of the engine is in the bundles of the codec', (t) => {
  for (const entry of ['index.node', 'index.web', 'native', 'wasm']) {
    for (const extension of ['js', 'cjs']) {
      const bundle = readFileSync(join(packageFolder, `dist/${entry}.${extension}`), 'utf8');
      t.false(/native-llm|GearModel|fetchModel/.test(bundle), entry);
    }
  }
});

for (const source of [
  "import { GearModel, GearError } from 'gear-kv/llm';",
  "import { createRequire } from 'node:module'; const { GearModel, GearError } = createRequire(process.cwd() + '/')('gear-kv/llm');",
]) {
  test(`the engine, by ${source.startsWith('import { GearModel') ? 'import' : 'require'}`, async (t) => {
    const failing = `${source} await GearModel.load(new Uint8Array(3)).catch((error) =>
      console.log(JSON.stringify([error instanceof GearError, error.code, GearModel.name])));`;
    t.deepEqual((await reported(failing)) as unknown, [true, 'CORRUPT_DATA', 'GearModel']);
  });
}

test('a browser gets the engine in WebAssembly, which says that it has to be started', async (t) => {
  const source = `import init, { GearModel } from 'gear-kv/llm';
    const codes = [];
    const load = () => GearModel.load(new Uint8Array(3)).catch(({ code }) => codes.push(code));
    await load();
    await init('/nowhere.wasm').catch(({ code }) => codes.push(code));
    await init((await import('node:fs')).readFileSync('dist/wasm/gearkv_wasm_bg.wasm')).catch(
      ({ code }) => codes.push(code));
    await Promise.all([init(), init()]);
    await init();
    await load();
    console.log(JSON.stringify(codes));`;
  const unavailable = 'BACKEND_UNAVAILABLE';
  const codes = (await reported(source, {}, ['--conditions=browser'])) as unknown;
  t.deepEqual(codes, [unavailable, unavailable, unavailable, 'CORRUPT_DATA']);
  const bundle = readFileSync(join(packageFolder, 'dist/llm.web.js'), 'utf8');
  t.regex(bundle, /new URL\(["']\.\/wasm-llm\/gearkv_wasm_llm_bg\.wasm["'], import\.meta\.url\)/);
  t.false(/^\s*import .*["']node:/m.test(bundle), 'the build for browsers imports a module of Node');
});

test('init does no harm in Node, named or default, with or without an input', async (t) => {
  t.is(init, fromNode.init);
  await Promise.all([init(), fromNode.init(), init(new Uint8Array([1, 2, 3]))]);
  t.is(fromNode.backend().name, process.env['GEARKV_BACKEND'] === 'wasm' ? 'wasm' : 'native');
});

test('init takes a path, a URL, bytes, a response and a module', async (t) => {
  const file = join(packageFolder, 'dist/wasm/gearkv_wasm_bg.wasm');
  const bytes = `(await import('node:fs')).readFileSync(${JSON.stringify(file)})`;
  const typed = `{ headers: { 'content-type': 'application/wasm' } }`;
  const inputs = [
    JSON.stringify(file),
    `new URL(${JSON.stringify(pathToFileURL(file).href)})`,
    JSON.stringify(pathToFileURL(file).href),
    bytes,
    `(${bytes}).slice().buffer`,
    `Promise.resolve(new Response(${bytes}, ${typed}))`,
    `new Response(${bytes})`,
    `new WebAssembly.Module(${bytes})`,
    `WebAssembly.compile(${bytes})`,
  ];
  for (const input of inputs) {
    const source = `import * as gear from 'gear-kv/wasm'; await gear.init(${input}); ${REPORT}`;
    t.is((await reported(source)).used, 'wasm', input);
  }
});

test('a failed init can be tried again', async (t) => {
  const source = `
    import * as gear from 'gear-kv/wasm';
    const codes = [];
    for (const input of ['/nowhere.wasm', new Uint8Array(3), new Response('', { status: 404 }), 7, new WebAssembly.Module(
      new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]))]) {
      await Promise.all([gear.init(input), gear.init(input)]).catch((error) => codes.push(error.code));
    }
    await gear.init();
    await gear.init('/nowhere.wasm');
    console.log(JSON.stringify([codes, gear.backend().name]));`;
  const [codes, name] = (await reported(source)) as unknown as [string[], string];
  const unavailable = 'BACKEND_UNAVAILABLE';
  t.deepEqual(codes, [unavailable, unavailable, unavailable, 'INVALID_OPTION', unavailable]);
  t.is(name, 'wasm');
});

test('tensors and errors of one entry point are good in another', async (t) => {
  const packed = fromWasm.compressSync(numbers, options);
  t.true(sameBits(fromNode.decompressSync(packed as never), fromWasm.decompressSync(packed)));
  const common = require('gear-kv') as typeof fromNode;
  const error = t.throws(() => common.compressSync(numbers.subarray(1), options));
  t.true(error instanceof fromNode.GearError);
  t.true(error instanceof fromWasm.GearError);
  t.not(common.GearError, fromNode.GearError);
  t.is((await fromNode.decompress(common.compressSync(numbers, options) as never)).length, numbers.length);
});

test('an entry point with one backend refuses the other', async (t) => {
  refuses(
    t,
    'BACKEND_UNAVAILABLE',
    () => fromWasm.compressSync(numbers, { ...options, backend: 'native' }),
    /gear-kv\/native/,
  );
  await rejects(t, 'BACKEND_UNAVAILABLE', () => fromWasm.loadBackend('native'));
});

test('a trap of the WebAssembly module is INTERNAL, with the message of the panic', (t) => {
  const trap = new WebAssembly.RuntimeError('unreachable');
  t.regex(gearError(trap).message, /stopped: unreachable.*bug/);
  explainTraps(() => 'index 7 out of range at segment.rs');
  const error = gearError(trap);
  t.deepEqual([error.code, error.cause], ['INTERNAL', trap]);
  t.regex(error.message, /stopped: index 7 out of range/);
  explainTraps(() => {
    throw trap;
  });
  t.regex(gearError(trap).message, /stopped: unreachable/);
  t.is(gearError(new Error('[gearkv:NOT_A_CODE] text')).code, 'INTERNAL');
  t.is(gearError(new Error('[gearkv:NOT_FINITE] text\nmore')).message, 'text\nmore');
  t.is(gearError('thrown text').code, 'INTERNAL');
});

test('the README example runs as it stands', async (t) => {
  const readme = readFileSync(join(repository, 'README.md'), 'utf8');
  const block = /^```js\n([\s\S]*?)^```/m.exec(readme)?.[1];
  t.truthy(block, 'README.md has no js block');
  const { code, stderr } = await ran(process.execPath, ['--input-type=module', '-e', block ?? ''], {
    cwd: packageFolder,
  });
  t.is(code, 0, stderr);
});
