// The native modules, compiled for this machine: the codec's, and the engine's, which is one of its own so that nobody loads an
// engine for the codec alone.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fingerprint, unlessUnchanged } from './fingerprint.mjs';
import { withoutMachinePaths } from './machine-paths.mjs';
import { lockedVersion } from './packages.mjs';
import { DIST, PACKAGE, ROOT } from './places.mjs';
import { run, step } from './progress.mjs';

export const CORE_SOURCES = [
  'Cargo.toml',
  'Cargo.lock',
  'crates/gearkv',
  'crates/gearkv-simd',
  'crates/gearkv-format',
  'bindings/marshal',
];

const CODEC = { name: 'native', title: 'the native module', crate: 'bindings/node', sources: ['crates/gearkv-cuda'] };
const ENGINE = {
  name: 'native-llm',
  title: 'the engine (about two minutes the first time)',
  crate: 'bindings/node-llm',
  // It shares a few files with the codec's module.
  sources: ['crates/gearkv-llm', 'bindings/node'],
  config: 'bindings/node-llm/napi.json',
};

const inputsOf = (crate, sources) => [
  ...CORE_SOURCES,
  crate,
  ...sources,
  'scripts/setup/native.mjs',
  'scripts/setup/machine-paths.mjs',
];

/** What the codec's module is made from. */
export const CODEC_INPUTS = inputsOf(CODEC.crate, CODEC.sources);

/** Builds the codec's module and its loader into `dist/native`. */
export function buildNative(rustc) {
  return buildAddon(CODEC, rustc);
}

/** Builds the engine's module and its loader into `dist/native-llm`. */
export function buildEngine(rustc) {
  return buildAddon(ENGINE, rustc);
}

async function buildAddon({ name, title, crate, sources, config }, rustc) {
  const inputs = inputsOf(crate, sources);
  const facts = [rustc, lockedVersion('@napi-rs/cli'), process.platform, process.arch, process.env.RUSTFLAGS ?? ''];
  const folder = join(DIST, name);
  const outputs = [join(folder, 'index.cjs')];
  await unlessUnchanged(name, { inputs: () => fingerprint(inputs, facts), outputs }, () =>
    step(`building ${title}`, async (onLine) => {
      rmSync(folder, { recursive: true, force: true });
      const napi = join(ROOT, 'node_modules/@napi-rs/cli/dist/cli.js');
      const args = ['build', '--release', '--platform', '--js', 'index.cjs', '--dts', 'index.d.cts', '--no-dts-cache'];
      const paths = {
        'manifest-path': join(ROOT, crate, 'Cargo.toml'),
        'package-json-path': join(PACKAGE, 'package.json'),
        'output-dir': folder,
        ...(config && { 'config-path': join(ROOT, config) }),
      };
      for (const [flag, path] of Object.entries(paths)) args.push(`--${flag}`, path);
      // What napi's own --strip does, but for these flags.
      const env = withoutMachinePaths(process.env, ['-C', 'strip=symbols']);
      await run(process.execPath, [napi, ...args], { cwd: ROOT, env, onLine });
    }),
  );
}
