// The checks of form: formatting, lints, types, and the shape of the package. `npm run check` after `npm test`; `npm run check -- tsc biome` for some of them.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChild } from './setup/child.mjs';
import { npm } from './setup/packages.mjs';
import { PACKAGE, ROOT } from './setup/places.mjs';
import { say } from './setup/progress.mjs';
import { wasmCompiler } from './setup/wasm-compiler.mjs';

/** Off by default. */
const OPTIONAL = 'gearkv-llm/tensors';
const DENY = ['--', '-D', 'warnings'];
// The core's bounds are those of 64 bits; where usize has 32, some of them cannot be passed.
const ALLOW_ON_32_BITS = ['-A', 'clippy::unnecessary_min_or_max', '-A', 'clippy::absurd_extreme_comparisons'];
/** Exports that are no modules. */
const WASM_FILES = ['./gearkv.wasm', './gearkv-llm.wasm'];
const tool = (path, ...args) => [process.execPath, join(ROOT, 'node_modules', path), ...args];

/** Clippy for wasm32 needs a compiler with that library; Debian's, which builds it, has no clippy. */
async function wasmClippy() {
  const { args } = await wasmCompiler();
  if (args.length > 0) return undefined;
  const crates = ['-p', 'gearkv-wasm', '-p', 'gearkv-wasm-llm'];
  return ['cargo', 'clippy', ...crates, '--target', 'wasm32-unknown-unknown', ...DENY, ...ALLOW_ON_32_BITS];
}

async function ptx() {
  const there = await runChild('python3', ['--version']).catch(() => undefined);
  return there?.code === 0 ? ['python3', join(ROOT, 'scripts/cuda/ptx.py')] : undefined;
}

async function tarball() {
  const [{ filename }] = JSON.parse(
    await npm(['pack', '--json', '--loglevel=error', '--pack-destination', folder], { cwd: PACKAGE }),
  );
  return join(folder, filename);
}

const checks = [
  ['rustfmt', () => ['cargo', 'fmt', '--all', '--check']],
  ['clippy', () => ['cargo', 'clippy', '--workspace', '--all-targets', '--features', OPTIONAL, ...DENY]],
  ['clippy for WebAssembly', wasmClippy, { RUSTFLAGS: '--cfg getrandom_backend="wasm_js"' }],
  // Says 'skipped' and why where NVIDIA's compiler cannot be had.
  ['PTX of the CUDA kernels', ptx],
  ['size of WebAssembly', () => [process.execPath, join(ROOT, 'scripts/wasm-size.mjs')]],
  ['paths of this machine', () => [process.execPath, join(ROOT, 'scripts/machine-paths.mjs')]],
  ['instruction counts', () => [process.execPath, join(ROOT, 'scripts/counts.mjs')]],
  [
    'rustdoc',
    () => ['cargo', 'doc', '--no-deps', '--workspace', '--features', OPTIONAL],
    { RUSTDOCFLAGS: '-D warnings -D missing_docs' },
  ],
  ['tsc', () => tool('typescript/bin/tsc', '-p', 'tsconfig.json')],
  ['tsc of the demo', () => tool('typescript/bin/tsc', '-p', 'demo/tsconfig.json')],
  ['biome', () => tool('@biomejs/biome/bin/biome', 'ci', '--error-on-warnings')],
  ['publint', async () => tool('publint/src/cli.js', '--strict', await tarball())],
  [
    'attw',
    async () => tool('@arethetypeswrong/cli/dist/index.js', await tarball(), '--exclude-entrypoints', ...WASM_FILES),
  ],
];

const words = process.argv.slice(2).map((word) => word.toLowerCase());
const asked =
  words.length === 0 ? checks : checks.filter(([name]) => words.some((word) => name.toLowerCase().includes(word)));
if (asked.length === 0) {
  console.error(`no check is called ${words.join(' or ')}; they are: ${checks.map(([name]) => name).join(', ')}`);
  process.exit(2);
}

const folder = mkdtempSync(join(tmpdir(), 'gear-kv-check-'));

const total = { passed: 0, failed: 0 };
try {
  for (const [name, command, env = {}] of asked) {
    const started = performance.now();
    let problem;
    try {
      const line = await command();
      if (line === undefined) {
        say(`- ${name}: skipped, what it needs is not here`);
        continue;
      }
      const [program, ...args] = line;
      const { code, output } = await runChild(program, args, { cwd: ROOT, env: { ...process.env, ...env } });
      if (code === 0 && output.startsWith('skipped')) {
        say(`- ${name}: ${output.trim()}`);
        continue;
      }
      if (code === 0 && output.startsWith('note')) say(output.trim());
      if (code !== 0) problem = `${line.join(' ')}\n${output.trimEnd()}`;
    } catch (error) {
      problem = error.message;
    }
    const elapsed = `${((performance.now() - started) / 1000).toFixed(1)} s`;
    if (problem !== undefined) console.log(`\n── ${name} ──\n${problem}\n`);
    console.log(`${problem === undefined ? '✓' : '✗'} ${name} (${elapsed})`);
    total[problem === undefined ? 'passed' : 'failed'] += 1;
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = total.failed === 0 ? 0 : 1;
console.log(`\n${total.passed} passed, ${total.failed} failed`);
