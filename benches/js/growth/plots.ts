// The record as pictures and as a page: benches/report.

import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TopLevelSpec } from 'vega-lite';
import { INK, svg } from '../../../npm/gear-kv/src/experiment/report/chart.js';
import { DESCRIPTIONS, type Drawn } from './drawn.js';
import { page } from './page.js';
import { AXIS_NAMES, type Axis, keyOf, pointsOf } from './points.js';
import { type GrowthRecord, type PointRow, REPORT } from './record.js';

const PANELS = [
  { field: 'attend1GigabytesPerSecond', title: 'attend, 1 query head' },
  { field: 'attend4GigabytesPerSecond', title: 'attend, 4 query heads' },
  { field: 'promptGigabytesPerSecond', title: 'a prompt taken in' },
] as const satisfies readonly { field: keyof PointRow; title: string }[];
const RATE = 'GB/s, counted as float32';

/** Colours that stand out from white and from black alike. */
const COLOURS: Record<string, string> = {
  float32: '#8f8f8f',
  float16: '#2f80ed',
  'kivi-4': '#12a594',
  'gear-4': '#e5484d',
  'gear-2': '#f2a33a',
  'paper-gear-4': '#a34fd9',
  kivi: '#12a594',
  uniform: '#2f80ed',
  rotated: '#a34fd9',
};

/** Writes a plot for every axis that has points, and the page that shows them; returns the paths. */
export async function draw(record: GrowthRecord): Promise<string[]> {
  for (const name of readdirSync(REPORT)) if (name.endsWith('.svg')) rmSync(new URL(name, REPORT));
  const files: string[] = [];
  const write = (name: string, text: string): void => {
    const path = fileURLToPath(new URL(name, REPORT));
    writeFileSync(path, text);
    files.push(path);
  };
  const shown = AXIS_NAMES.map((axis) => ({ axis, rows: rowsOf(record, axis) })).filter(({ rows }) => rows.length > 0);
  for (const { axis, rows } of shown)
    write(`${axis}.svg`, await svg(axis === 'presets' ? bars(rows) : lines(axis, rows)));
  write('README.md', page(record.machine, shown));
  return files;
}

function rowsOf({ points }: GrowthRecord, axis: Axis): Drawn[] {
  return pointsOf(axis).flatMap((point) => (points[keyOf(point)] ?? []).map((row) => ({ ...row, x: point.x })));
}

function lines(axis: Axis, rows: readonly Drawn[]): TopLevelSpec {
  const { x, logarithmic } = DESCRIPTIONS[axis];
  const places = [...new Set(rows.map((row) => row.x))];
  const names = [...new Set(rows.map(({ name }) => name))];
  return {
    data: { values: [...rows] },
    spacing: 30,
    align: 'each',
    hconcat: PANELS.map(({ field, title }) => ({
      title,
      width: 270,
      height: 250,
      mark: { type: 'line', point: { filled: true, size: 55 }, strokeWidth: 2.2 },
      encoding: {
        x: {
          field: 'x',
          type: 'quantitative',
          title: x,
          scale: { ...(logarithmic ? { type: 'log', base: 2 } : { zero: true }), nice: false, padding: 12 },
          axis: {
            values: places,
            grid: false,
            labelOverlap: false,
            labelFlush: false,
            format: 'd',
            ...(axis === 'tokens' && { labelExpr: "datum.value / 1024 + 'k'" }),
          },
        },
        y: { field, type: 'quantitative', title: RATE, scale: { zero: true, nice: 6 }, axis: { tickCount: 6 } },
        color: {
          field: 'name',
          type: 'nominal',
          title: null,
          scale: { domain: names, range: names.map((name) => COLOURS[name] ?? INK) },
          legend: { orient: 'bottom', symbolType: 'circle' },
        },
      },
    })),
  };
}

function bars(rows: readonly Drawn[]): TopLevelSpec {
  return {
    data: { values: [...rows] },
    spacing: 24,
    align: 'each',
    hconcat: PANELS.map(({ field, title }, i) => ({
      title,
      width: 240,
      height: { step: 22 },
      view: { stroke: null },
      encoding: {
        x: { field, type: 'quantitative', title: RATE, axis: { tickCount: 4 } },
        y: {
          field: 'name',
          type: 'nominal',
          sort: null,
          title: null,
          axis: i === 0 ? { ticks: false } : { ticks: false, labels: false },
        },
      },
      layer: [
        { mark: { type: 'bar', color: '#e5484d', height: 13 } },
        {
          mark: { type: 'text', align: 'left', dx: 4, fontSize: 11, color: INK },
          encoding: { text: { field, type: 'quantitative', format: '.2f' } },
        },
      ],
    })),
  };
}
