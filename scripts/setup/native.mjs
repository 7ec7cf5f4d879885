// The native module: bindings/node, compiled for this machine.

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fingerprint, unlessUnchanged } from './fingerprint.mjs';
import { lockedVersion } from './packages.mjs';
import { DIST, PACKAGE, ROOT } from './places.mjs';
import { run, step } from './progress.mjs';

export const NATIVE = join(DIST, 'native');
export const CORE_SOURCES = ['Cargo.toml', 'Cargo.lock', 'crates', 'bindings/marshal'];

/** Builds the native module and its loader into `dist/native`. */
export async function buildNative(rustc) {
  const sources = [...CORE_SOURCES, 'bindings/node', 'scripts/setup/native.mjs'];
  const facts = [rustc, lockedVersion('@napi-rs/cli'), process.platform, process.arch, process.env.RUSTFLAGS ?? ''];
  const outputs = [join(NATIVE, 'index.cjs')];
  await unlessUnchanged('native', { inputs: () => fingerprint(sources, facts), outputs }, () =>
    step('building the native module', async (onLine) => {
      rmSync(NATIVE, { recursive: true, force: true });
      const napi = join(ROOT, 'node_modules/@napi-rs/cli/dist/cli.js');
      const args = [
        'build',
        '--release',
        '--platform',
        '--strip',
        '--js',
        'index.cjs',
        '--dts',
        'index.d.cts',
        '--no-dts-cache',
      ];
      const paths = {
        'manifest-path': join(ROOT, 'bindings/node/Cargo.toml'),
        'package-json-path': join(PACKAGE, 'package.json'),
        'output-dir': NATIVE,
      };
      for (const [name, path] of Object.entries(paths)) args.push(`--${name}`, path);
      await run(process.execPath, [napi, ...args], { cwd: ROOT, onLine });
    }),
  );
}
