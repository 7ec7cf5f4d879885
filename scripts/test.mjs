// Runs every test there is, on every backend and runtime: `npm test`, or `npm test -- deno` for the suites with that in their
// name. The last line says how many passed and failed.

import { runDemo } from '../demo/test/chromium.mjs';
import { runAva } from '../npm/gear-kv/test/runners/ava.mjs';
import { runChromium } from '../npm/gear-kv/test/runners/chromium.mjs';
import { Report } from '../npm/gear-kv/test/runners/report.mjs';
import { runBun, runDeno } from '../npm/gear-kv/test/runners/runtimes.mjs';
import { say } from './setup/progress.mjs';
import { runOnArm64 } from './test/arm64.mjs';
import { runCargo } from './test/cargo.mjs';
import { runCudaOnCpu } from './test/cuda.mjs';

const HEARTBEAT_MS = 20_000;
const SUITE = 'test/suite/**/*.test.ts';

const suites = [
  ['Rust crates', runCargo],
  ['CUDA kernels on the CPU', runCudaOnCpu],
  ['native in Node', (onTest) => runAva(SUITE, { GEARKV_BACKEND: 'native' }, onTest)],
  ['wasm in Node', (onTest) => runAva(SUITE, { GEARKV_BACKEND: 'wasm' }, onTest)],
  ['wasm in Chromium', runChromium],
  ['native in Deno', (onTest) => runDeno('native', onTest)],
  ['wasm in Deno', (onTest) => runDeno('wasm', onTest)],
  ['native in Bun', (onTest) => runBun('native', onTest)],
  ['wasm in Bun', (onTest) => runBun('wasm', onTest)],
  ['command, files and package in Node', (onTest) => runAva('test/node/**/*.test.ts', {}, onTest)],
  ['64-bit ARM, emulated', runOnArm64],
  ['transformers.js in Node and Chromium', (onTest) => runAva('test/peers/**/*.test.ts', {}, onTest)],
  ['examples', (onTest) => runAva('test/examples/**/*.test.ts', {}, onTest)],
  ['engine in Node', (onTest) => runAva('test/llm/**/*.test.ts', {}, onTest)],
  ['engine and demo page in Chromium', runDemo],
];

const wanted = process.argv.slice(2).map((word) => word.toLowerCase());
const selected = suites.filter(([name]) => wanted.every((word) => name.toLowerCase().includes(word)));
const total = { passed: 0, failed: 0 };
if (selected.length === 0) {
  say(`no suite has '${wanted.join(' ')}' in its name; there are: ${suites.map(([name]) => name).join(', ')}`);
  total.failed = 1;
}
for (const [name, suite] of selected) {
  const started = performance.now();
  const elapsed = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  let latest = '';
  const heartbeat = setInterval(() => say(`  ${name}: ${elapsed()} (${latest})`), HEARTBEAT_MS);
  const report = await suite((title) => {
    latest = title.trim() || latest;
  }).catch((error) => Report.broken('the suite could not be run', String(error.stack ?? error)));
  clearInterval(heartbeat);
  for (const failure of report.failures) console.log(`\n── ${name} ── ${failure}\n`);
  const skipped = report.skipped > 0 ? `, ${report.skipped} skipped` : '';
  const mark = report.failed === 0 ? '✓' : '✗';
  console.log(`${mark} ${name.padEnd(36)} ${report.passed} passed, ${report.failed} failed${skipped} (${elapsed()})`);
  for (const reason of report.reasons) console.log(`  skipped: ${reason}`);
  total.passed += report.passed;
  total.failed += report.failed;
}
process.exitCode = total.failed === 0 ? 0 : 1;
console.log(`\n${total.passed} passed, ${total.failed} failed`);
