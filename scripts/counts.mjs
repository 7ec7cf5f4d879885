// How many instructions the core takes for each number, counted by callgrind and held against benches/counts.json:
// `node scripts/counts.mjs`, and with `--accept` what was counted becomes the record. What is counted: benches/rust/src/bin/counts.rs.
//
// valgrind emulates a processor of its own, with AVX2 and without AVX-512, so the machine does not matter. The compiler does: with another one
// than the record's, differences are told and nothing fails. Where the checkout lies would matter through the heap, in which the program's own
// path stands: so it is started as `./counts`. And glibc would move larger pieces of memory with `rep movsb`, one instruction a byte.

import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from './setup/places.mjs';
import {
  answer,
  aptCommand,
  canInstallDebianPackages,
  commandPath,
  installDebianPackages,
} from './setup/prerequisites.mjs';
import { run, SetupError } from './setup/progress.mjs';

const RECORD = join(ROOT, 'benches/counts.json');
/** The symbol of the function that does what counts. */
const COUNTED = 'counts::counted';
/** Loops that `multiversion` compiles choose for themselves: without AVX2 only attention counts differently. */
const LEVELS = { avx2: [], scalar: ['attend'] };
const TOLERANCE = 0.05;
const WITHOUT_REP_MOVSB = 'glibc.cpu.x86_rep_movsb_threshold=1000000000';

const { values } = parseArgs({
  options: { accept: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
});
const percent = (ratio) => `${ratio < 1 ? '' : '+'}${((ratio - 1) * 100).toFixed(1)} %`;

/** Why counting is impossible here, or undefined. Installs valgrind where that needs no password. */
async function obstacle() {
  if (process.platform !== 'linux' || process.arch !== 'x64') return 'instructions are those of Linux on x86-64';
  if (commandPath('valgrind') !== undefined) return undefined;
  if (canInstallDebianPackages()) await installDebianPackages(['valgrind']).catch(() => undefined);
  return commandPath('valgrind') === undefined
    ? `valgrind is not here (Debian: sudo ${aptCommand(['valgrind'])})`
    : undefined;
}

/** Path of the program whose work is counted. */
async function built() {
  const { RUSTFLAGS: _, ...env } = process.env;
  const args = ['build', '--release', '-p', 'gearkv-benches', '--bin', 'counts', '--message-format=json'];
  const messages = (await run('cargo', args, { cwd: ROOT, env })).trim().split('\n');
  return messages.map((line) => JSON.parse(line)).find(({ executable }) => executable)?.executable;
}

/** Instructions for each number of every row that begins with one of `rows`, or of all. */
async function count(program, level, rows) {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-counts-'));
  try {
    const out = join(folder, 'out');
    const options = [
      `--callgrind-out-file=${out}`,
      '--dump-line=no',
      '--collect-atstart=no',
      `--toggle-collect=${COUNTED}`,
      `--dump-after=${COUNTED}`,
    ];
    copyFileSync(program, join(folder, 'counts'));
    const stdout = await run('valgrind', ['--tool=callgrind', ...options, './counts', ...rows], {
      cwd: folder,
      env: { ...process.env, GEARKV_SIMD: level, GLIBC_TUNABLES: WITHOUT_REP_MOVSB },
    });
    const lines = stdout.trim().split('\n');
    return Object.fromEntries(
      lines.map((line, i) => {
        const [name, numbers] = line.split('\t');
        const instructions = /^(?:summary|totals): (\d+)$/m.exec(readFileSync(`${out}.${i + 1}`, 'utf8'))?.[1];
        if (instructions === undefined) throw new SetupError(`callgrind counted nothing for ${name}`);
        return [name, Number((Number(instructions) / Number(numbers)).toFixed(3))];
      }),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function counted() {
  const program = await built();
  const levels = Object.entries(LEVELS).map(async ([level, rows]) => [level, await count(program, level, rows)]);
  return {
    compiler: answer('rustc', ['--version']),
    valgrind: answer('valgrind', ['--version']),
    instructionsPerNumber: Object.fromEntries(await Promise.all(levels)),
  };
}

/** Every row of either, with what was and what is. */
function compared(before, now) {
  return Object.keys(LEVELS).flatMap((level) => {
    const [was, is] = [before, now].map((counts) => counts.instructionsPerNumber[level] ?? {});
    return [...new Set([...Object.keys(was), ...Object.keys(is)])].map((name) => ({
      name: `${name}, ${level}`,
      was: was[name],
      is: is[name],
      ratio: is[name] / was[name],
    }));
  });
}

const described = ({ name, was, is, ratio }) =>
  `  ${name.padEnd(36)} ${String(was ?? '–').padStart(9)} → ${String(is ?? '–').padStart(9)}  ${Number.isNaN(ratio) ? '' : percent(ratio)}`.trimEnd();
const listed = (rows) => rows.map((row) => described(row)).join('\n');

async function main() {
  const why = await obstacle();
  if (why !== undefined) return console.log(`skipped: ${why}`);
  const now = await counted();
  const before = existsSync(RECORD) ? JSON.parse(readFileSync(RECORD, 'utf8')) : { instructionsPerNumber: {} };
  const rows = compared(before, now);
  if (values.accept) {
    writeFileSync(RECORD, `${JSON.stringify(now, null, 2)}\n`);
    return console.log(`instructions for each number, as recorded before and now:\n${listed(rows)}`);
  }
  const fits = ({ ratio }) => Math.abs(ratio - 1) <= TOLERANCE;
  const off = rows.filter((row) => !fits(row));
  const accept = 'node scripts/counts.mjs --accept';
  if (before.compiler !== undefined && before.compiler !== now.compiler) {
    const changes = off.length === 0 ? 'all rows within 5 % of it' : `beyond 5 % of it:\n${listed(off)}`;
    return console.log(`skipped: the record is of ${before.compiler}, this is ${now.compiler}; ${changes}`);
  }
  // Rows that came or went are not numbers, and fail.
  if (off.some(({ ratio }) => !(ratio < 1))) {
    process.exitCode = 1;
    const tools = before.valgrind === now.valgrind ? '' : ` (by ${before.valgrind}; this is ${now.valgrind})`;
    return console.log(
      `instructions for each number differ from the record${tools}:\n${listed(off)}\nWhere that is right: ${accept}`,
    );
  }
  if (off.length > 0)
    return console.log(`note: fewer instructions than recorded:\n${listed(off)}\nRecord them: ${accept}`);
  console.log(`instructions for each number, recorded and now:\n${listed(rows)}`);
}

if (values.help)
  console.log(
    'node scripts/counts.mjs            counts and compares\nnode scripts/counts.mjs --accept   counts and records',
  );
else await main();
