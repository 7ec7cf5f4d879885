// From the compiled cdylib to the JavaScript that loads it: wasm-pack where it is installed with a matching wasm-bindgen,
// otherwise a stand-in of ten lines on the library that both are made of.

import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fingerprint } from './fingerprint.mjs';
import { ROOT, TOOL_CACHE } from './places.mjs';
import { answer, commandPath } from './prerequisites.mjs';
import { run, SetupError, say, step } from './progress.mjs';

const STAND_IN = 'scripts/wasm-bindgen-stand-in';

/** The wasm-bindgen version that the lock file pins; command and crate must agree on it exactly. */
export function lockedBindgen() {
  const lock = readFileSync(join(ROOT, 'Cargo.lock'), 'utf8');
  const version = /name = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock)?.[1];
  if (version === undefined) throw new SetupError('Cargo.lock does not name wasm-bindgen; run cargo generate-lockfile');
  return version;
}

/** Whether wasm-pack can do the whole build: it is there, and so is the wasm-bindgen that it would otherwise download. */
export function hasWasmPack() {
  return (
    commandPath('wasm-pack') !== undefined && answer('wasm-bindgen', ['--version'])?.split(' ')[1] === lockedBindgen()
  );
}

/** Path of the stand-in, built on first use and kept for every later clone. */
export async function bindgenStandIn() {
  const version = lockedBindgen();
  if (!readFileSync(join(ROOT, STAND_IN, 'Cargo.toml'), 'utf8').includes(`"=${version}"`)) {
    throw new SetupError(
      `${STAND_IN}/Cargo.toml asks for another wasm-bindgen-cli-support than Cargo.lock: ${version}`,
    );
  }
  const name = `wasm-bindgen-${version}-${fingerprint([STAND_IN]).slice(0, 12)}`;
  const folder = join(TOOL_CACHE, name);
  const file = process.platform === 'win32' ? 'wasm-bindgen-stand-in.exe' : 'wasm-bindgen-stand-in';
  const binary = join(folder, file);
  if (existsSync(binary)) return binary;
  say(
    `  wasm-pack is not installed with wasm-bindgen ${version}; a small stand-in is built once (about half a minute). The real ones, in ten ` +
      `minutes: cargo install wasm-pack && cargo install wasm-bindgen-cli --version ${version}`,
  );
  await step(`building the stand-in for wasm-bindgen ${version}`, async (onLine) => {
    const build = join(folder, 'build');
    const manifest = join(ROOT, STAND_IN, 'Cargo.toml');
    const args = ['build', '--locked', '--manifest-path', manifest, '--target-dir', build];
    await run('cargo', args, { cwd: ROOT, onLine });
    mkdirSync(folder, { recursive: true });
    copyFileSync(join(build, 'debug', file), binary);
    rmSync(build, { recursive: true, force: true });
  });
  return binary;
}
