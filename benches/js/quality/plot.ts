// The plot of docs/quality.md: divergence against size, one line a method.

import { createHash } from 'node:crypto';
import type { TopLevelSpec } from 'vega-lite';
import { svg } from '../../../npm/gear-kv/src/experiment/report/chart.js';
import { sections } from './configurations.js';
import type { Results } from './results.js';

interface Point {
  readonly series: string;
  readonly label: string;
  readonly bits: number;
  readonly kl: number;
}

/** Colours that stand out from white and from black alike; the first is ours. */
const COLOURS = [
  '#e5484d',
  '#f5a3a6',
  '#f2a33a',
  '#a34fd9',
  '#d07df0',
  '#2f80ed',
  '#7fb3f5',
  '#12a594',
  '#6b78e8',
  '#8f8f8f',
  '#5d9c2f',
  '#a18072',
  '#d6409f',
  '#00a2c7',
];
/** Points of all methods that were measured. */
export function points({ methods: { rows } }: Results): readonly Point[] {
  return sections.methods.rows.flatMap(({ name, label, series }) => {
    const row = rows.find((row) => row.name === name);
    return row === undefined || series === undefined ? [] : [{ series, label, bits: row.bitsPerElement, kl: row.kl }];
  });
}

/** Tells whether a plot shows these results. */
export function fingerprint(results: Results): string {
  return createHash('sha256')
    .update(JSON.stringify(points(results)))
    .digest('hex')
    .slice(0, 16);
}

/** The plot as an SVG. */
export function plot(results: Results): Promise<string> {
  return svg(specification(points(results)), fingerprint(results));
}

function specification(all: readonly Point[]): TopLevelSpec {
  const series = [...new Set(all.map((point) => point.series))];
  const isOurs = `datum.series === '${series[0]}'`;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    width: 620,
    height: 460,
    // What comes last is drawn on top.
    data: { values: all.toReversed() },
    encoding: {
      x: {
        field: 'bits',
        type: 'quantitative',
        title: 'bits of an element, everything counted',
        scale: { domain: [2, 8.75], nice: false },
        axis: { values: [2, 3, 4, 5, 6, 7, 8], format: 'd' },
      },
      y: {
        field: 'kl',
        type: 'quantitative',
        title: 'KL divergence from a float16 cache (nats)',
        scale: { type: 'log', nice: false, domain: [3e-5, 3] },
        axis: { format: '~g', values: [1, 0.1, 0.01, 0.001, 0.0001] },
      },
      color: { field: 'series', type: 'nominal', title: null, scale: { domain: series, range: COLOURS } },
    },
    layer: [
      {
        mark: { type: 'line', clip: false },
        encoding: { strokeWidth: { condition: { test: isOurs, value: 3.5 }, value: 1.4 }, order: { field: 'bits' } },
      },
      {
        mark: { type: 'point', filled: true, opacity: 1 },
        encoding: {
          size: { condition: { test: isOurs, value: 150 }, value: 80 },
          shape: { field: 'series', type: 'nominal', title: null, scale: { domain: series } },
        },
      },
      {
        mark: { type: 'text', align: 'right', baseline: 'top', dx: -8, dy: 5, fontWeight: 'bold', fontSize: 12 },
        transform: [{ filter: isOurs }],
        encoding: { text: { field: 'label' } },
      },
    ],
  };
}
