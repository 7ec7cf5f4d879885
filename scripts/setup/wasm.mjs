// The WebAssembly modules, with SIMD, each as ES module glue and one .wasm file: the codec's, and the engine's, which is one of its
// own so that nobody downloads an engine for the codec alone.

import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fingerprint, isUnchanged, unlessUnchanged } from './fingerprint.mjs';
import { withoutMachinePaths } from './machine-paths.mjs';
import { CORE_SOURCES } from './native.mjs';
import { lockedVersion } from './packages.mjs';
import { DIST, ROOT } from './places.mjs';
import { run, say, step } from './progress.mjs';
import { bindgenStandIn, hasWasmPack } from './wasm-bindings.mjs';
import { wasmCompiler } from './wasm-compiler.mjs';

// Profiles are the root Cargo.toml's.
const CODEC = {
  folder: 'wasm',
  title: 'the WebAssembly module',
  crate: 'bindings/wasm',
  name: 'gearkv_wasm',
  profile: 'wasm',
  sources: [],
  flags: ['-C', 'target-feature=+simd128'],
  // Whatever has one caller would become part of it, until all that attends is one function: 5 % larger in all, and its loops' registers spilled.
  // By name, functions made from one generic one lie side by side, where gzip finds what they have in common: 2 % smaller.
  optimizer: ['--one-caller-inline-max-function-size=0', '--reorder-functions-by-name'],
};
const ENGINE = {
  folder: 'wasm-llm',
  title: 'the WebAssembly module of the engine (minutes the first time)',
  crate: 'bindings/wasm-llm',
  name: 'gearkv_wasm_llm',
  profile: 'wasm-llm',
  // It shares a few files with the codec's module and with the engine's native one.
  sources: ['crates/gearkv-llm', 'bindings/wasm', 'bindings/node-llm/src/saved.rs'],
  // Random numbers come from JavaScript; a feature of the crate alone does not suffice.
  flags: ['-C', 'target-feature=+simd128', '--cfg', 'getrandom_backend="wasm_js"'],
};
// What rustc turns on for this target, and SIMD: the optimizer must neither refuse it nor use anything beyond it.
const OPTIMIZER = [
  '-O3',
  ...[
    'simd',
    'bulk-memory',
    'nontrapping-float-to-int',
    'sign-ext',
    'mutable-globals',
    'multivalue',
    'reference-types',
  ].map((feature) => `--enable-${feature}`),
];

/** Builds the codec's module into `dist/wasm`. */
export function buildWasm(rustc) {
  return buildModule(CODEC, rustc);
}

/** Builds the engine's module into `dist/wasm-llm`. */
export function buildWasmEngine(rustc) {
  return buildModule(ENGINE, rustc);
}

/** Removes the engine's module where it is not that of these sources: TypeScript would be built on its old glue. */
export function removeOldWasmEngine(rustc) {
  if (!isUnchanged(ENGINE.folder, made(ENGINE, rustc)))
    rmSync(join(DIST, ENGINE.folder), { recursive: true, force: true });
}

const fileOf = ({ folder, name }) => join(DIST, folder, `${name}_bg.wasm`);

/** What a module is made from, and which files are made. */
function made(module, rustc) {
  const { crate, sources, name, folder } = module;
  const place = join(DIST, folder);
  const scripts = ['scripts/setup/wasm.mjs', 'scripts/setup/machine-paths.mjs', 'scripts/wasm-bindgen-stand-in'];
  const inputs = [...CORE_SOURCES, crate, ...sources, ...scripts];
  const outputs = [fileOf(module), join(place, `${name}.js`), join(place, `${name}.d.ts`)];
  return { inputs: () => fingerprint(inputs, [rustc, lockedVersion('binaryen')]), outputs };
}

async function buildModule(module, rustc) {
  const place = join(DIST, module.folder);
  await unlessUnchanged(module.folder, made(module, rustc), async () => {
    const compiler = await wasmCompiler();
    rmSync(place, { recursive: true, force: true });
    mkdirSync(place, { recursive: true });
    const env = withoutMachinePaths({ ...process.env, ...compiler.env }, module.flags);
    await (hasWasmPack() && compiler.args.length === 0
      ? withWasmPack(module, place, env)
      : withStandIn(module, place, compiler, env));
    await step(`optimizing ${module.name}`, (onLine) => optimize(module, onLine));
  });
}

function withWasmPack({ title, crate, name, profile }, place, env) {
  return step(`building ${title} with wasm-pack`, async (onLine) => {
    // Optimizing is left to the step after: wasm-pack skips it without a word where wasm-opt is not on the PATH.
    const args = ['build', '--mode', 'no-install', '--profile', profile, '--target', 'web', '--no-opt', '--no-pack'];
    await run('wasm-pack', [...args, '--out-dir', place, '--out-name', name, join(ROOT, crate)], {
      cwd: ROOT,
      env,
      onLine,
    });
    // wasm-pack leaves one that hides everything, from npm pack too.
    rmSync(join(place, '.gitignore'), { force: true });
  });
}

async function withStandIn({ title, crate, name, profile }, place, compiler, env) {
  const bindgen = await bindgenStandIn();
  await step(`building ${title} with ${compiler.version.split(' (')[0]}`, async (onLine) => {
    const triple = 'wasm32-unknown-unknown';
    const manifest = join(ROOT, crate, 'Cargo.toml');
    const args = [
      'build',
      '--profile',
      profile,
      '--lib',
      '--target',
      triple,
      '--manifest-path',
      manifest,
      '--target-dir',
      compiler.targetDir,
    ];
    await run(compiler.cargo, [...args, ...compiler.args], { cwd: ROOT, env, onLine });
    await run(bindgen, [join(compiler.targetDir, triple, profile, `${name}.wasm`), place, name], {
      cwd: ROOT,
      onLine,
    });
  });
}

async function optimize(module, onLine) {
  const file = fileOf(module);
  const optimizer = join(ROOT, 'node_modules/binaryen/bin/wasm-opt');
  const optimized = `${file}.optimized`;
  await run(process.execPath, [optimizer, ...OPTIMIZER, ...(module.optimizer ?? []), file, '-o', optimized], {
    cwd: ROOT,
    onLine,
  });
  renameSync(optimized, file);
  const bytes = readFileSync(file);
  const kib = (size) => `${(size / 1024).toFixed(0)} KiB`;
  say(`  ${basename(file)}: ${kib(bytes.length)}, ${kib(gzipSync(bytes, { level: 9 }).length)} gzipped`);
}
