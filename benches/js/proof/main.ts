// A real model through transformers.js: the cache of 1,000 tokens is frozen, saved, loaded by another process, thawed and gone on from.
// `npm run proof`, `-- --help` for more. docs/runtimes.md has what came out.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { peerFolder } from '../peers.js';
import { targetTable } from '../report.js';
import { inChromium } from './chromium.js';
import { onnxModelFolder } from './model.js';
import { type Plan, planOf, type Seen, type Thawed } from './plan.js';
import { type Proof, proofTable, proofTargets } from './report.js';

const HELP = `npm run proof -- [options]

  --only WHERE    node or chromium; both unless given
  --tokens N      tokens of the cache (1000)
  --rounds N      how often times are taken, the best of which counts (3); recomputing is timed once in Chromium
  --chromium PATH the browser; /usr/bin/chromium or CHROMIUM_PATH unless given
  --json          as JSON on standard output
  --help          this`;
const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: ['node', 'chromium'] },
    tokens: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '3' },
    chromium: { type: 'string', default: process.env['CHROMIUM_PATH'] ?? '/usr/bin/chromium' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const IN_CHROMIUM = ['uniform-8', 'gear-4', 'at rest, 3 bits'];

const say = (text: string): boolean => process.stderr.write(text);
const worker = fileURLToPath(new URL('./node-worker.ts', import.meta.url));

function inNode(model: string, plan: Plan): { seen: Seen; thawed: Thawed[] } {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-proof-'));
  const half = <Result>(which: 'see' | 'go on'): Result => {
    const request = JSON.stringify({ half: which, plan, model, folder });
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--import=tsx', worker, request], {
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    if (status !== 0) throw new Error(`the process that was to ${which}: ${stderr}`);
    return JSON.parse(stdout) as Result;
  };
  try {
    return { seen: half<Seen>('see'), thawed: half<Thawed[]>('go on') };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function promptTokens(): number[] {
  const file = fileURLToPath(new URL('../../../fixtures/windows.json', import.meta.url));
  const { tokenIds } = JSON.parse(readFileSync(file, 'utf8')) as { tokenIds: number[][] };
  return tokenIds[0] as number[];
}

async function main(): Promise<void> {
  if (values.help) {
    console.log(HELP);
    return;
  }
  peerFolder('@huggingface/transformers');
  const model = await onnxModelFolder(say);
  const tokens = promptTokens();
  const proofs: Proof[] = [];
  const plan = planOf(tokens, Number(values.tokens), Number(values.rounds));
  if (values.only.includes('node')) {
    say('Node …\n');
    proofs.push({ where: `Node ${process.versions.node}`, ...inNode(model, plan) });
  }
  if (values.only.includes('chromium')) {
    say('Chromium …\n');
    // A step takes ten times as long there.
    const kinds = plan.kinds.filter(({ name }) => IN_CHROMIUM.includes(name));
    proofs.push({
      where: 'Chromium',
      ...(await inChromium(values.chromium, model, { ...plan, kinds, recomputeRounds: 1 })),
    });
  }
  const targets = proofs.flatMap(proofTargets);
  if (values.json) console.log(JSON.stringify({ plan, proofs, targets }, null, 2));
  else console.log([...proofs.map((proof) => proofTable(proof, plan)), targetTable(targets)].join('\n\n'));
  process.exitCode = targets.every(({ met }) => met) ? 0 : 1;
}

await main();
