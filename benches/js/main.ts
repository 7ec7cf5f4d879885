// What the package does beside what a JavaScript program would do without it, in one run: `npm run bench`, `-- --help` for more.
// What each suite and row is: benches/README.md.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { type Measured, measured } from './measure.js';
import { onnxRuntime } from './onnx.js';
import { decodeTable, suiteTable, targetTable } from './report.js';
import { attend, prefill } from './suites/attend.js';
import { compress, decompress } from './suites/codec.js';
import type { Context } from './suites/context.js';
import { DECODE, type DecodeMeasured, decode } from './suites/decode.js';
import { targets } from './targets.js';

const SUITES = {
  'compress-keys': compress('key'),
  'compress-values': compress('value'),
  'decompress-keys': decompress('key'),
  'decompress-values': decompress('value'),
  attend: attend('attend', { kvHeads: 8, queryHeads: 8, headDim: 128 }),
  'attend-gqa': attend('attend-gqa', { kvHeads: 8, queryHeads: 32, headDim: 128 }),
  'attend-small': attend('attend-small', { kvHeads: 3, queryHeads: 3, headDim: 64 }),
  'attend-small-gqa': attend('attend-small-gqa', { kvHeads: 3, queryHeads: 9, headDim: 64 }),
  prefill,
};
const NAMES = [...Object.keys(SUITES), DECODE];
const ELSEWHERE = {
  'npm run bench:llm': 'a model on our caches beside llama.cpp with f16, q8_0 and q4_0 caches, end to end',
  'npm run bench:growth': 'the same over tokens, head_dim, rank, bits and threads, drawn into benches/report',
  'cargo bench -p gearkv-benches': 'the core alone, without Node',
  'node scripts/counts.mjs': 'instructions, which no noise touches',
};
const elsewhere = Object.entries(ELSEWHERE)
  .map(([command, what]) => `  ${command.padEnd(30)} ${what}`)
  .join('\n');
const HELP = `npm run bench -- [options]

  --suite NAME   only this suite; may be given several times: ${NAMES.join(', ')}
  --quick        small and short: a minute or two; targets are those of the sizes of a full run
  --json         one JSON document on standard output, progress on standard error
  --no-peers     without the rows of ONNX Runtime, which is installed outside the repository on first use
  --help         this

Elsewhere:
${elsewhere}`;

const QUICK = '\n  Of a quick run, whose sizes are smaller than those that the targets are for.';

const { values } = parseArgs({
  options: {
    suite: { type: 'string', multiple: true, default: NAMES },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    'no-peers': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

/** Where results go. Whatever else is printed, by benny too, is progress. */
const print = console.log.bind(console);
console.log = console.error;

async function run(): Promise<void> {
  const unknown = values.suite.filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) throw new Error(`--suite is ${unknown.join(', ')}; expected ${NAMES.join(', ')}`);
  const backends = { native: await import('gear-kv/native'), wasm: await import('gear-kv/wasm') };
  const needsPeer = values.suite.some((name) => name.startsWith('attend'));
  const context = { backends, quick: values.quick, onnx: needsPeer && !values['no-peers'] ? peer() : undefined };
  const machine = {
    processor: cpus()[0]?.model,
    cores: availableParallelism(),
    node: process.version,
    native: backends.native.backend().simd,
    wasm: backends.wasm.backend().simd,
  };
  if (!values.json) {
    const { processor, cores, node, native, wasm } = machine;
    print(`${processor}, ${cores} cores, Node ${node}; native: ${native}, wasm: ${wasm}; one thread`);
  }
  const suites = await measureAll(context);
  const steps = values.suite.includes(DECODE) ? decode(context) : undefined;
  if (steps !== undefined && !values.json) print(`\n${decodeTable(steps)}`);
  const reached = targets({ measured: suites, decode: steps, wasmGzipBytes: gzippedWasm() });
  if (values.json) {
    const everything: (Measured | DecodeMeasured)[] = steps === undefined ? suites : [...suites, steps];
    print(
      JSON.stringify(
        { machine, quick: values.quick, suites: everything, targets: reached, elsewhere: ELSEWHERE },
        null,
        2,
      ),
    );
  } else {
    print(`\n${targetTable(reached)}${values.quick ? QUICK : ''}\n\nElsewhere:\n${elsewhere}`);
  }
}

async function measureAll(context: Context): Promise<Measured[]> {
  const effort = context.quick ? { rounds: 1, seconds: 0.2 } : { rounds: 3, seconds: 1 };
  const all: Measured[] = [];
  for (const [name, suite] of Object.entries(SUITES)) {
    if (!values.suite.includes(name)) continue;
    const made = await suite(context);
    const one = await measured(made, effort);
    made.dispose();
    if (!values.json) print(`\n${suiteTable(one)}`);
    all.push(one);
  }
  return all;
}

function peer(): Context['onnx'] {
  try {
    return onnxRuntime();
  } catch (error) {
    console.error(`without ONNX Runtime: ${(error as Error).message}`);
    return undefined;
  }
}

function gzippedWasm(): number {
  const file = createRequire(import.meta.url).resolve('gear-kv/gearkv.wasm');
  return gzipSync(readFileSync(file), { level: 9 }).length;
}

if (values.help) print(HELP);
else await run();
