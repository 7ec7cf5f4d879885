// Decoding from some length on: each step takes one token in and attends. Unlike the others this changes what it works on, and what counts is also its
// slowest step, so every step is timed by itself, several times over on a cache that is filled anew: the fastest time of each step is what it takes.

import { type LayerShape, layer, queryOf } from '../data.js';
import { BACKENDS, type Context, filled, PRESETS, rowName } from './context.js';

export const DECODE = 'decode';
const SHAPE = { kvHeads: 8, queryHeads: 32, headDim: 128 };

export interface DecodeRow {
  name: string;
  /** Of all steps, the milliseconds that a step takes on the average. */
  milliseconds: number;
  appendMilliseconds: number;
  attendMilliseconds: number;
  /** What taking tokens in takes, as a part of what attending takes. */
  appendShare: number;
  /** The slowest step, and how many times slower than the median step it is. */
  worstMilliseconds: number;
  worstOverMedian: number;
}

export interface DecodeMeasured {
  name: typeof DECODE;
  title: string;
  rows: DecodeRow[];
}

export function decode({ backends, quick }: Context): DecodeMeasured {
  const shape = { ...SHAPE, tokens: 4096 };
  const steps = quick ? 128 : 512;
  const repeats = quick ? 2 : 5;
  const kv = [layer(shape, 1), layer(shape, 3)] as const;
  const rows = BACKENDS.flatMap((backend) =>
    (['float16', ...PRESETS] as const).map((preset): DecodeRow => {
      console.log(`  ${DECODE}: ${rowName(preset, backend)}`);
      const fresh = () => filled(backends[backend], { preset }, SHAPE, kv);
      return rowOf(rowName(preset, backend), stepTimes(fresh, shape, { steps, repeats }));
    }),
  );
  return {
    name: DECODE,
    title: `decode: ${steps} steps from ${shape.tokens} tokens on, each with one token in and one query for each of ${SHAPE.queryHeads} heads, ${SHAPE.kvHeads} KV heads of ${SHAPE.headDim}`,
    rows,
  };
}

interface StepTimes {
  append: number[];
  attend: number[];
}

/** The fastest of each step. */
function stepTimes(
  fresh: () => ReturnType<typeof filled>,
  { kvHeads, queryHeads, headDim }: LayerShape,
  { steps, repeats }: { steps: number; repeats: number },
): StepTimes {
  const token = layer({ kvHeads, tokens: steps, headDim }, 5);
  const row = kvHeads * headDim;
  const query = queryOf({ queryHeads, headDim });
  const out = new Float32Array(query.length);
  const best = { append: Array<number>(steps).fill(Infinity), attend: Array<number>(steps).fill(Infinity) };
  for (let repeat = 0; repeat < repeats; repeat++) {
    const cache = fresh();
    for (let step = 0; step < steps; step++) {
      const one = token.subarray(step * row, (step + 1) * row);
      const before = performance.now();
      cache.append(0, one, one);
      const between = performance.now();
      cache.attend(0, query, { queryHeads, out });
      const after = performance.now();
      best.append[step] = Math.min(best.append[step] as number, between - before);
      best.attend[step] = Math.min(best.attend[step] as number, after - between);
    }
    cache.dispose();
  }
  return best;
}

function rowOf(name: string, { append, attend }: StepTimes): DecodeRow {
  const mean = (times: number[]): number => times.reduce((sum, time) => sum + time, 0) / times.length;
  const whole = append.map((time, step) => time + (attend[step] as number));
  const sorted = whole.toSorted((a, b) => a - b);
  const worst = sorted.at(-1) as number;
  return {
    name,
    milliseconds: mean(whole),
    appendMilliseconds: mean(append),
    attendMilliseconds: mean(attend),
    appendShare: mean(append) / mean(attend),
    worstMilliseconds: worst,
    worstOverMedian: worst / (sorted[sorted.length >> 1] as number),
  };
}
