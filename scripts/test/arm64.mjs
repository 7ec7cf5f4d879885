// Runs on an emulated 64-bit ARM what an x86-64 machine can: the tests of the hot loops, which compare every instruction set that is there with plain
// loops, and the native module under Node, whose bytes have to be those of every other machine.

import { bundleSuite } from '../../npm/gear-kv/test/runners/bundle.mjs';
import { Report } from '../../npm/gear-kv/test/runners/report.mjs';
import { FIXTURE, runHarness } from '../../npm/gear-kv/test/runners/runtimes.mjs';
import { CARGO_ENV, prepareArm64, TRIPLE } from '../setup/arm64.mjs';
import { answer } from '../setup/prerequisites.mjs';
import { runCargoTests } from './cargo.mjs';

/** Minutes each under emulation, of steps that other files take, too. */
const TOO_LONG = ['life.test.ts', 'auto.test.ts'];

/** The suite. Where no ARM can be emulated, it is skipped. */
export async function runOnArm64(onTest) {
  const report = new Report();
  const { node, addon, reason } = await prepareArm64(answer('rustc', ['--version']));
  if (reason !== undefined) {
    report.skip(`64-bit ARM (skipped: ${reason})`);
    report.ended = true;
    return report;
  }
  report.add(await runCargoTests(['-p', 'gearkv-simd', '--target', TRIPLE], CARGO_ENV, onTest));
  const settings = { runtime: 'node', backend: 'native', fixtureUrl: FIXTURE, simd: 'dotprod' };
  const file = await bundleSuite(settings, 'gear-kv', TOO_LONG);
  const env = { GEARKV_BACKEND: 'native', NAPI_RS_NATIVE_LIBRARY_PATH: addon };
  report.add(await runHarness(node, [file], env, onTest));
  report.ended = true;
  return report;
}
