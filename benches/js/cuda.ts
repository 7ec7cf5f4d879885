// A cache on a GPU beside the same cache on the CPU: what a step of decoding takes in Node, a layer. `npm run bench:cuda -- --help`.

import { parseArgs } from 'node:util';
import { GearCache, type Preset } from 'gear-kv';
import { numbers } from './data.js';

const HELP = `npm run bench:cuda -- [options]

  --tokens N       context (default 32768)
  --batches A,B    sequences side by side (default 1,4)
  --presets A,B    default gear-4,kivi-4,float16
  --json           one JSON document on standard output, progress on standard error
  --help           this`;

const KV_HEADS = 8;
const QUERY_HEADS = 32;
const HEAD_DIM = 128;
/** One after the other, so that no layer is in a nearby cache from the step before. */
const LAYERS = 4;
const STEPS = 64;

const { values } = parseArgs({
  options: {
    tokens: { type: 'string', default: '32768' },
    batches: { type: 'string', default: '1,4' },
    presets: { type: 'string', default: 'gear-4,kivi-4,float16' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

interface Row {
  preset: string;
  batch: number;
  /** Of float16's bytes, in the GPU's memory. */
  deviceShare: number;
  uploadMs: number;
  appendUs: { cpu: number; cuda: number };
  attendUs: { cpu: number; cuda: number };
  /** Tokens appended and attended to: a full buffer is compressed on the way. */
  stepUs: { cpu: number; cuda: number };
}

/** Numbers with an offset for each channel, which is what keys look like. */
function withOffsets(count: number, seed: number): Float32Array {
  const next = numbers(seed);
  const offsets = Float32Array.from({ length: HEAD_DIM }, () => next() * 2);
  const all = new Float32Array(count);
  for (let i = 0; i < count; i++) all[i] = next() + (offsets[i % HEAD_DIM] ?? 0);
  return all;
}

const median = (times: number[]): number => times.sort((a, b) => a - b)[times.length >> 1] ?? Number.NaN;

function steps(cache: GearCache, batch: number): { append: number; attend: number; step: number } {
  const [k, v] = [1, 2].map((seed) => withOffsets(batch * KV_HEADS * HEAD_DIM, seed)) as [Float32Array, Float32Array];
  const query = withOffsets(batch * QUERY_HEADS * HEAD_DIM, 3);
  const out = new Float32Array(query.length);
  const [appends, attends]: [number[], number[]] = [[], []];
  const started = performance.now();
  for (let step = 0; step < STEPS; step++) {
    for (let layer = 0; layer < LAYERS; layer++) {
      const before = performance.now();
      cache.append(layer, k, v);
      const between = performance.now();
      cache.attend(layer, query, { queryHeads: QUERY_HEADS, out });
      appends.push(1000 * (between - before));
      attends.push(1000 * (performance.now() - between));
    }
  }
  const step = (1000 * (performance.now() - started)) / STEPS / LAYERS;
  return { append: median(appends), attend: median(attends), step };
}

function measured(preset: Preset, batch: number, tokens: number): Row {
  const cpu = new GearCache({ layers: LAYERS, batch, kvHeads: KV_HEADS, headDim: HEAD_DIM, preset });
  const [k, v] = [4, 5].map((seed) => withOffsets(batch * KV_HEADS * tokens * HEAD_DIM, seed)) as [
    Float32Array,
    Float32Array,
  ];
  for (let layer = 0; layer < LAYERS; layer++) cpu.append(layer, k, v);
  const cuda = GearCache.fromBytes(cpu.toBytes(), { device: 'cuda' });
  const query = withOffsets(batch * QUERY_HEADS * HEAD_DIM, 6);
  const started = performance.now();
  for (let layer = 0; layer < LAYERS; layer++) cuda.attend(layer, query, { queryHeads: QUERY_HEADS });
  const uploadMs = (performance.now() - started) / LAYERS;
  // Once round first: a first segment from the buffer has the layer uploaded anew under some presets.
  for (const cache of [cuda, cpu]) steps(cache, batch);
  const [ofCuda, ofCpu] = [steps(cuda, batch), steps(cpu, batch)];
  const { device, float16ByteLength } = cuda;
  if (device.kind !== 'cuda') throw new Error(`it is not on a GPU any more: ${device.reason}`);
  for (const cache of [cuda, cpu]) cache.dispose();
  return {
    preset,
    batch,
    deviceShare: device.byteLength / float16ByteLength,
    uploadMs,
    appendUs: { cpu: ofCpu.append, cuda: ofCuda.append },
    attendUs: { cpu: ofCpu.attend, cuda: ofCuda.attend },
    stepUs: { cpu: ofCpu.step, cuda: ofCuda.step },
  };
}

const HEAD = `| preset | batch | of float16 | upload, ms | append, µs | attend, µs | step, µs | on the CPU: append | attend | step |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |`;

function line({ preset, batch, deviceShare, uploadMs, appendUs, attendUs, stepUs }: Row): string {
  const n = (x: number): string => x.toFixed(x < 10 ? 1 : 0);
  const cells = [appendUs.cuda, attendUs.cuda, stepUs.cuda, appendUs.cpu, attendUs.cpu, stepUs.cpu].map(n);
  return `| \`${preset}\` | ${batch} | ${deviceShare.toFixed(3)} | ${n(uploadMs)} | ${cells.join(' | ')} |`;
}

function main(): void {
  const { device } = new GearCache({ layers: 1, kvHeads: 1, headDim: 64, device: 'auto' });
  if (device.kind === 'cpu') {
    console.error(`there is nothing to measure: ${device.reason}`);
    process.exitCode = 1;
    return;
  }
  const rows: Row[] = [];
  if (!values.json) console.log(HEAD);
  for (const preset of values.presets.split(',') as Preset[]) {
    for (const batch of values.batches.split(',').map(Number)) {
      console.error(`${preset}, batch ${batch} …`);
      const row = measured(preset, batch, Number(values.tokens));
      rows.push(row);
      if (!values.json) console.log(line(row));
    }
  }
  if (values.json) console.log(JSON.stringify({ device: device.name, tokens: Number(values.tokens), rows }));
}

if (values.help) console.log(HELP);
else main();
