// Runs the bundled suite in Deno and Bun, whose programs come as npm packages.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { runChild } from '../../../../scripts/setup/child.mjs';
import { ROOT, TARGET } from '../../../../scripts/setup/places.mjs';
import { bundleSuite } from './bundle.mjs';
import { Report } from './report.mjs';

const TIMEOUT_MS = 600_000;
/** Where the suite finds its fixtures: one of them. */
export const FIXTURE = pathToFileURL(join(ROOT, 'fixtures/kv_smollm2_135m.safetensors')).href;

/** Deno takes `gear-kv` for the wasm build by itself; the native one is a subpath there. */
export async function runDeno(backend, onTest) {
  const entry = backend === 'native' ? 'gear-kv/native' : 'gear-kv';
  const file = await bundleSuite({ runtime: 'deno', backend, fixtureUrl: FIXTURE }, entry);
  // The wasm run goes without the right to load native code.
  const rights = ['--allow-read', '--allow-write', '--allow-env', ...(backend === 'native' ? ['--allow-ffi'] : [])];
  const args = ['run', '--no-prompt', '--no-lock', '--cached-only', '--node-modules-dir=manual', ...rights, file];
  const env = { DENO_DIR: join(TARGET, 'deno'), DENO_NO_UPDATE_CHECK: '1', GEARKV_BACKEND: backend };
  return runHarness(program('deno', 'bin.cjs'), args, env, onTest);
}

/** Bun takes the native build; the environment asks for the other, as in Node. */
export async function runBun(backend, onTest) {
  const file = await bundleSuite({ runtime: 'bun', backend, fixtureUrl: FIXTURE });
  return runHarness(program('bun', 'bin/bun.exe'), ['run', '--no-install', file], { GEARKV_BACKEND: backend }, onTest);
}

function program(name, file) {
  const path = join(ROOT, 'node_modules', name, file);
  if (!existsSync(path))
    throw new Error(`${name} is not installed; run npm ci with scripts and optional packages allowed`);
  return path.endsWith('.cjs') ? [process.execPath, path] : [path];
}

/** Runs a bundled suite: a command with its first arguments, and further ones. */
export async function runHarness([command, ...before], args, env, onTest) {
  const report = new Report();
  const onLine = (line) => {
    if (report.readHarnessLine(line)) onTest(report.latest);
  };
  const options = { cwd: ROOT, env: { ...process.env, NO_COLOR: '1', ...env }, onLine, timeoutMs: TIMEOUT_MS };
  return report.close(await runChild(command, [...before, ...args], options));
}
