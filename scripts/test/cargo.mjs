// Runs the Rust tests and counts them.

import { Report } from '../../npm/gear-kv/test/runners/report.mjs';
import { runChild } from '../setup/child.mjs';
import { ROOT } from '../setup/places.mjs';

const RESULT = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/;

/** Off by default, but tested: models as candle's tensors. (Their caches on a GPU, feature `cuda`, take nvcc to build.) */
const FEATURES = ['--features', 'gearkv-llm/tensors'];

/** `cargo test` on the whole workspace. */
export function runCargo(onTest) {
  return runCargoTests(['--workspace', ...FEATURES], {}, onTest);
}

/** `cargo test` with these arguments and variables. */
export async function runCargoTests(args, env, onTest) {
  const report = new Report();
  const onLine = (line) => {
    onTest(line);
    const result = RESULT.exec(line);
    if (result === null) return;
    report.ended = true;
    report.passed += Number(result[1]);
    report.failed += Number(result[2]);
    report.skipped += Number(result[3]);
  };
  const options = { cwd: ROOT, env: { ...process.env, ...env }, onLine };
  const ran = await runChild('cargo', ['test', ...args, '--no-fail-fast'], options);
  if (report.failed > 0) report.failures.push(failureSections(ran.output));
  return report.close(ran);
}

/** The part of cargo's output that says what failed and why. */
function failureSections(output) {
  const sections = output
    .split(/^failures:$/m)
    .slice(1)
    .map((section) => section.split(/^test result:/m)[0].trim());
  return sections.filter((section) => section.includes('----')).join('\n\n') || output;
}
