// Runs the CUDA kernels on the CPU: the tests of crates/gearkv-cuda with a stand-in for the driver, whose threads take turns in three
// orders; some of them under AddressSanitizer; and those of caches that Node puts on a GPU.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { runAva } from '../../npm/gear-kv/test/runners/ava.mjs';
import { Report } from '../../npm/gear-kv/test/runners/report.mjs';
import { runChild } from '../setup/child.mjs';
import { ROOT, TARGET } from '../setup/places.mjs';
import { say } from '../setup/progress.mjs';

const CRATE = join(ROOT, 'crates/gearkv-cuda');
const BUILD = ['test', '-p', 'gearkv-cuda', '--test', 'device', '--no-run', '--message-format=json'];
const RESULT = /^test result: \w+\. (\d+) passed; (\d+) failed/;
/** What is run in the other orders, and under AddressSanitizer: every kind of record, and the buffer. */
const SOME = [
  'every_preset',
  'every_way_to_quantize',
  'with_outliers',
  'tokens_are_appended',
  'different_lengths',
  'many_queries',
];

/** Builds the stand-in; gives the folder it is in. */
async function build(name, ...flags) {
  const folder = join(TARGET, 'cuda-stand-in', name);
  mkdirSync(folder, { recursive: true });
  const include = ['-I', join(CRATE, 'kernels'), '-I', join(CRATE, 'tests/stand_in')];
  const args = [
    '-std=c++17',
    '-O2',
    '-Wall',
    '-Wno-unknown-pragmas',
    '-Wno-sign-compare',
    '-fPIC',
    '-shared',
    ...flags,
    ...include,
  ];
  const output = join(folder, 'libcuda.so.1');
  const ran = await runChild('c++', [...args, join(CRATE, 'tests/stand_in/driver.cpp'), '-o', output]);
  if (ran.code !== 0 || ran.output !== '') throw new Error(`the stand-in for a CUDA driver: ${ran.output}`);
  return folder;
}

/** Builds the tests; gives their program. */
async function buildTests() {
  const { code, stdout, output } = await runChild('cargo', BUILD, { cwd: ROOT });
  const messages = stdout.split('\n').filter((line) => line.startsWith('{'));
  const programs = messages.map((line) => JSON.parse(line)).filter(({ executable }) => typeof executable === 'string');
  if (code !== 0 || programs.length !== 1) throw new Error(`the tests of gearkv-cuda could not be built: ${output}`);
  return programs[0].executable;
}

async function isHere(command, ...args) {
  return runChild(command, args).then(
    ({ code, stdout }) => code === 0 && stdout.trim(),
    () => false,
  );
}

/** The suite. Where there is no C++ compiler, or fibers are another matter, it is skipped. */
export async function runCudaOnCpu(onTest) {
  const report = new Report();
  if (process.platform !== 'linux' || !(await isHere('c++', '--version'))) {
    say('  CUDA kernels on the CPU: skipped, a C++ compiler on Linux is needed');
    report.skipped += 1;
    return report;
  }
  const program = await buildTests();
  const run = async (title, folder, env, tests) => {
    let result;
    const onLine = (line) => {
      onTest(`${title}: ${line}`);
      result = RESULT.exec(line) ?? result;
    };
    const all = { ...process.env, GEARKV_CUDA_REQUIRED: '1', LD_LIBRARY_PATH: folder, ...env };
    const ran = await runChild(program, tests, { cwd: CRATE, env: all, onLine });
    report.passed += Number(result?.[1] ?? 0);
    if (ran.code !== 0) report.fail(title, ran.output);
  };
  const folder = await build('plain');
  report.add(await runAva('test/cuda/**/*.test.ts', { LD_LIBRARY_PATH: folder }, onTest));
  await run('threads in order', folder, { GEARKV_STAND_IN_ORDER: '0' }, []);
  await run('threads in reverse', folder, { GEARKV_STAND_IN_ORDER: '1' }, SOME);
  await run('threads at random', folder, { GEARKV_STAND_IN_ORDER: '2' }, SOME);
  const library = await isHere('c++', '-print-file-name=libasan.so');
  if (library && library !== 'libasan.so') {
    const env = { LD_PRELOAD: library, ASAN_OPTIONS: 'detect_leaks=0', GEARKV_STAND_IN_ORDER: '2' };
    await run('under AddressSanitizer', await build('asan', '-g', '-fsanitize=address'), env, [
      'tokens_are_appended',
      'widths',
      'begins_on_the_device',
      'hard_to_quantize',
      'large_and_of_small',
      'different_lengths',
    ]);
  } else {
    say('  CUDA kernels on the CPU: not under AddressSanitizer, which this compiler does not have');
    report.skipped += 1;
  }
  report.ended = true;
  return report;
}
