// One point in a process of its own: the point comes as JSON, its rows go as JSON.

import * as gear from 'gear-kv/native';
import { layer, queryOf } from '../data.js';
import { KV_HEADS, type Point, type Series, SHARING } from './points.js';
import type { PointRow } from './record.js';

/** Rounds of attention, in which all caches take turns, and how long they go on at least and at most. */
const ROUNDS = { least: 5, enough: 60, seconds: 8 };
/** A prompt is taken in several times, fewer where that is long. */
const PROMPTS = { least: 3, seconds: 2, most: 8 };

const point = JSON.parse(process.argv[2] ?? '') as Point;
const { tokens, headDim, threads } = point;
// The same numbers as keys and as values: at the largest sizes they would not fit twice beside what is made of them.
const data = layer({ kvHeads: KV_HEADS, tokens, headDim });
/** What keys and values take as float32; rates are in these. */
const gigabytes = (2 * data.byteLength) / 1e9;

interface Held {
  name: string;
  cache: gear.GearCache;
  layers: number;
  promptSeconds: number;
  attendSeconds: number[];
}

/**
 * Caches that are not compressed have a layer for each head, so that each lies in one piece, the most favorable order for them; but where threads share
 * the work, since they share that of one layer.
 */
function filled({ name, options }: Series): Held {
  const isCompressed = name !== 'float32' && name !== 'float16';
  const layers = isCompressed || point.axis === 'threads' ? 1 : KV_HEADS;
  const share = data.length / layers;
  let best = Number.POSITIVE_INFINITY;
  for (let total = 0, times = 1; ; times++) {
    const started = performance.now();
    const cache = new gear.GearCache({ ...options, layers, kvHeads: KV_HEADS / layers, headDim, threads });
    for (let i = 0; i < layers; i++) {
      const its = data.subarray(i * share, (i + 1) * share);
      cache.append(i, its, its);
    }
    const seconds = (performance.now() - started) / 1000;
    best = Math.min(best, seconds);
    total += seconds;
    if ((total > PROMPTS.seconds && times >= PROMPTS.least) || total > PROMPTS.most)
      return { name, cache, layers, promptSeconds: best, attendSeconds: SHARING.map(() => Number.POSITIVE_INFINITY) };
    cache.dispose();
  }
}

function attend({ cache, layers, attendSeconds }: Held): void {
  SHARING.forEach((sharing, i) => {
    const query = queryOf({ queryHeads: sharing * KV_HEADS, headDim });
    const out = new Float32Array(query.length);
    const share = query.length / layers;
    const queryHeads = (sharing * KV_HEADS) / layers;
    const started = performance.now();
    for (let l = 0; l < layers; l++) {
      const [from, to] = [l * share, (l + 1) * share];
      cache.attend(l, query.subarray(from, to), { queryHeads, out: out.subarray(from, to) });
    }
    const seconds = (performance.now() - started) / 1000;
    attendSeconds[i] = Math.min(attendSeconds[i] as number, seconds);
  });
}

const held = point.series.map(filled);
const started = performance.now();
for (let round = 0; ; round++) {
  for (const one of held) attend(one);
  const seconds = (performance.now() - started) / 1000;
  if (round >= ROUNDS.least && (seconds > ROUNDS.seconds || round >= ROUNDS.enough)) break;
}
const rows = held.map(
  ({ name, cache, promptSeconds, attendSeconds }): PointRow => ({
    name,
    bytes: cache.byteLength,
    promptMilliseconds: promptSeconds * 1e3,
    promptGigabytesPerSecond: gigabytes / promptSeconds,
    attend1Milliseconds: (attendSeconds[0] as number) * 1e3,
    attend1GigabytesPerSecond: gigabytes / (attendSeconds[0] as number),
    attend4Milliseconds: (attendSeconds[1] as number) * 1e3,
    attend4GigabytesPerSecond: gigabytes / (attendSeconds[1] as number),
  }),
);
console.error(`  ${(process.resourceUsage().maxRSS / 1e6).toFixed(2)} GB at most`);
process.stdout.write(`${JSON.stringify(rows)}\n`);
