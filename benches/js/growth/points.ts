// What is measured: along each axis a point for every value, and at every point several caches, which take turns.

import { availableParallelism } from 'node:os';
import { type GearOptions, type Preset, presets } from 'gear-kv';

/** One cache at a point. */
export interface Series {
  name: string;
  options: GearOptions;
}

/** What one child process measures. */
export interface Point {
  axis: Axis;
  /** The value on the axis; on `presets` there is one point with all of them. */
  x: number;
  tokens: number;
  headDim: number;
  threads: number;
  series: readonly Series[];
}

export const KV_HEADS = 8;
/** Query heads for each KV head. */
export const SHARING = [1, 4] as const;
const TOKENS = 8192;
const HEAD_DIM = 128;

const preset = (name: Preset): Series => ({ name, options: { preset: name } });
const MAIN = (['float32', 'float16', 'kivi-4', 'gear-4', 'gear-2'] as const).map(preset);

function powersOfTwo(from: number, to: number): number[] {
  const all: number[] = [];
  for (let x = from; x <= to; x *= 2) all.push(x);
  return all;
}

/** 1, 2, 4 … and all. */
function threadCounts(): number[] {
  const cores = availableParallelism();
  return [...new Set([...powersOfTwo(1, cores), cores])];
}

const usual = { tokens: TOKENS, headDim: HEAD_DIM, threads: 1 };

export const AXES = {
  tokens: powersOfTwo(1024, 131_072).map((x) => ({ ...usual, x, tokens: x, series: MAIN })),
  headDim: [64, 80, 96, 128, 256].map((x) => ({ ...usual, x, headDim: x, series: MAIN })),
  rank: [0, 1, 2, 3, 4, 5, 6, 7, 8].map((x) => ({
    ...usual,
    x,
    series: (['gear-4', 'paper-gear-4'] as const).map((name) => ({
      name,
      options: { preset: name, rank: x, rankByNeed: false },
    })),
  })),
  bits: ([2, 3, 4, 8] as const).map((x) => ({
    ...usual,
    x,
    series: (['kivi', 'uniform', 'rotated'] as const).map((backbone) => ({
      name: backbone,
      options: { preset: 'kivi-4', backbone, bits: x } satisfies GearOptions,
    })),
  })),
  threads: threadCounts().map((x) => ({ ...usual, x, threads: x, tokens: 32_768, series: MAIN })),
  presets: [{ ...usual, x: 0, series: presets.map(preset) }],
} satisfies Record<string, Omit<Point, 'axis'>[]>;

export type Axis = keyof typeof AXES;

export const AXIS_NAMES = Object.keys(AXES) as Axis[];

export function pointsOf(axis: Axis): Point[] {
  return AXES[axis].map((point) => ({ axis, ...point }));
}

/** What tells a point from all others in the record. */
export const keyOf = ({ axis, x }: Pick<Point, 'axis' | 'x'>): string => (axis === 'presets' ? axis : `${axis} ${x}`);
