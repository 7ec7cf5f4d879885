// The WebAssembly module: bindings/wasm, with SIMD, as ES module glue and one .wasm file in `dist/wasm`.

import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { fingerprint, unlessUnchanged } from './fingerprint.mjs';
import { CORE_SOURCES } from './native.mjs';
import { lockedVersion } from './packages.mjs';
import { DIST, ROOT } from './places.mjs';
import { run, say, step } from './progress.mjs';
import { bindgenStandIn, hasWasmPack } from './wasm-bindings.mjs';
import { wasmCompiler } from './wasm-compiler.mjs';

const CRATE = 'bindings/wasm';
const NAME = 'gearkv_wasm';
/** Of the root Cargo.toml: speed where the arithmetic is, size everywhere else. */
const PROFILE = 'wasm';
const FEATURE = '-C target-feature=+simd128';
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

export const WASM = join(DIST, 'wasm');
const FILE = join(WASM, `${NAME}_bg.wasm`);

/** Builds the WebAssembly module into `dist/wasm`. */
export async function buildWasm(rustc) {
  const sources = [...CORE_SOURCES, CRATE, 'scripts/setup/wasm.mjs', 'scripts/wasm-bindgen-stand-in'];
  const outputs = [FILE, join(WASM, `${NAME}.js`), join(WASM, `${NAME}.d.ts`)];
  await unlessUnchanged(
    'wasm',
    { inputs: () => fingerprint(sources, [rustc, lockedVersion('binaryen')]), outputs },
    async () => {
      const compiler = await wasmCompiler();
      rmSync(WASM, { recursive: true, force: true });
      mkdirSync(WASM, { recursive: true });
      const env = { ...process.env, ...compiler.env, RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} ${FEATURE}`.trim() };
      await (hasWasmPack() && compiler.args.length === 0 ? withWasmPack(env) : withStandIn(compiler, env));
      await step('optimizing the WebAssembly module', (onLine) => optimize(onLine));
    },
  );
}

function withWasmPack(env) {
  return step('building the WebAssembly module with wasm-pack', async (onLine) => {
    // Optimizing is left to the step below: wasm-pack skips it without a word where wasm-opt is not on the PATH.
    const args = ['build', '--mode', 'no-install', '--profile', PROFILE, '--target', 'web', '--no-opt', '--no-pack'];
    await run('wasm-pack', [...args, '--out-dir', WASM, '--out-name', NAME, join(ROOT, CRATE)], {
      cwd: ROOT,
      env,
      onLine,
    });
    // wasm-pack leaves one that hides everything, from npm pack too.
    rmSync(join(WASM, '.gitignore'), { force: true });
  });
}

async function withStandIn(compiler, env) {
  const bindgen = await bindgenStandIn();
  await step(`building the WebAssembly module with ${compiler.version.split(' (')[0]}`, async (onLine) => {
    const triple = 'wasm32-unknown-unknown';
    const manifest = join(ROOT, CRATE, 'Cargo.toml');
    const args = [
      'build',
      '--profile',
      PROFILE,
      '--lib',
      '--target',
      triple,
      '--manifest-path',
      manifest,
      '--target-dir',
      compiler.targetDir,
    ];
    await run(compiler.cargo, [...args, ...compiler.args], { cwd: ROOT, env, onLine });
    await run(bindgen, [join(compiler.targetDir, triple, PROFILE, `${NAME}.wasm`), WASM, NAME], {
      cwd: ROOT,
      onLine,
    });
  });
}

async function optimize(onLine) {
  const optimizer = join(ROOT, 'node_modules/binaryen/bin/wasm-opt');
  const optimized = `${FILE}.optimized`;
  await run(process.execPath, [optimizer, ...OPTIMIZER, FILE, '-o', optimized], { cwd: ROOT, onLine });
  renameSync(optimized, FILE);
  const bytes = readFileSync(FILE);
  const kib = (size) => `${(size / 1024).toFixed(0)} KiB`;
  say(`  ${NAME}_bg.wasm: ${kib(bytes.length)}, ${kib(gzipSync(bytes, { level: 9 }).length)} gzipped`);
}
