// Looks for input that breaks the reader of .gear files, or a cache's life: `node scripts/fuzz.mjs`, a minute for each target;
// `--seconds 3600`, and a target's name for that one alone. Without cargo-fuzz: libFuzzer through rustc's own flags, as cargo-fuzz has it.
// What it finds worth keeping lies in fuzz/target/corpus, what breaks in fuzz/artifacts; fuzz/corpus is what every test run replays.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runChild } from './setup/child.mjs';
import { ROOT } from './setup/places.mjs';
import { say } from './setup/progress.mjs';

const TARGETS = ['reader', 'life'];
const TRIPLE = { 'linux-x64': 'x86_64-unknown-linux-gnu', 'linux-arm64': 'aarch64-unknown-linux-gnu' };
const FLAGS = [
  '--cfg fuzzing',
  '-Cpasses=sancov-module',
  '-Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters',
  '-Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
  '-Zsanitizer=address',
  '-Ccodegen-units=1',
].join(' ');

const FUZZ = join(ROOT, 'fuzz');
const { values, positionals } = parseArgs({
  options: { seconds: { type: 'string', default: '60' } },
  allowPositionals: true,
});
const seconds = Number(values.seconds);
const targets = positionals.length > 0 ? positionals : TARGETS;

/** Why fuzzing is impossible here, or undefined. */
async function obstacle() {
  if (TRIPLE[`${process.platform}-${process.arch}`] === undefined)
    return `it is done on Linux, not on ${process.platform}`;
  const nightly = await runChild('cargo', ['+nightly', '--version']).catch(() => undefined);
  if (nightly?.code !== 0) return 'it takes a nightly compiler (rustup toolchain install nightly)';
  return undefined;
}

/** Runs one target; true where nothing broke. */
async function fuzz(target, triple) {
  const found = join(FUZZ, 'target/corpus', target);
  const artifacts = join(FUZZ, 'artifacts', target);
  for (const folder of [found, artifacts]) mkdirSync(folder, { recursive: true });
  const limits = ['-max_len=4096', '-timeout=30', '-rss_limit_mb=2048', '-malloc_limit_mb=512'];
  const { code, output } = await runChild(
    join(FUZZ, 'target', triple, 'release', target),
    [found, join(FUZZ, 'corpus', target), `-max_total_time=${seconds}`, `-artifact_prefix=${artifacts}/`, ...limits],
    { cwd: FUZZ },
  );
  const [, runs, took] = /Done (\d+) runs in (\d+) second/.exec(output) ?? [];
  if (code === 0 && runs !== undefined) {
    say(`✓ ${target}: ${runs} executions in ${took} s, nothing broke`);
    return true;
  }
  say(`✗ ${target}\n${output.slice(-6000)}`);
  return false;
}

const unknown = targets.find((target) => !TARGETS.includes(target));
if (unknown !== undefined || !(seconds > 0)) {
  say(`usage: node scripts/fuzz.mjs [${TARGETS.join('|')}] [--seconds 60]`);
  process.exitCode = 2;
} else {
  const reason = await obstacle();
  if (reason !== undefined) {
    say(`skipped fuzzing: ${reason}`);
  } else {
    const triple = TRIPLE[`${process.platform}-${process.arch}`];
    const build = ['+nightly', 'build', '--release', '--target', triple];
    const env = { ...process.env, RUSTFLAGS: FLAGS };
    const { code, output } = await runChild('cargo', build, { cwd: FUZZ, env });
    if (code !== 0) {
      say(output);
      process.exitCode = 1;
    }
    for (const target of code === 0 ? targets : []) {
      if (!(await fuzz(target, triple))) process.exitCode = 1;
    }
  }
}
