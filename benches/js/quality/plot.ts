// The plot of docs/quality.md: divergence against size, one line a method.

import { createHash } from 'node:crypto';
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
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
const INK = '#1f2328';
const GRID = '#d8dee4';
const PAPER = '#ffffff';
/** What the three become where pages are dark. */
const DARK = { [INK]: '#e6edf3', [GRID]: '#30363d', [PAPER]: '#0d1117' };

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
export async function plot(results: Results): Promise<string> {
  const view = new View(parse(compile(specification(points(results))).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  const rules = Object.entries(DARK).map(
    ([light, dark]) => `[fill="${light}"]{fill:${dark}}[stroke="${light}"]{stroke:${dark}}`,
  );
  const style = `<style>@media (prefers-color-scheme:dark){${rules.join('')}}</style>`;
  const marked = `<!-- ${fingerprint(results)} -->${style}`;
  return `${svg.replace(/<svg [^>]*>/, (open) => `${open}${marked}`)}\n`;
}

function specification(all: readonly Point[]): TopLevelSpec {
  const series = [...new Set(all.map((point) => point.series))];
  const isOurs = `datum.series === '${series[0]}'`;
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    width: 620,
    height: 460,
    padding: 14,
    background: PAPER,
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
    config: {
      font: 'system-ui, sans-serif',
      view: { stroke: GRID },
      axis: {
        labelColor: INK,
        titleColor: INK,
        gridColor: GRID,
        domainColor: GRID,
        tickColor: GRID,
        labelFontSize: 12,
        titleFontSize: 13,
        titleFontWeight: 'normal',
      },
      legend: { labelColor: INK, labelFontSize: 12, symbolSize: 80, symbolOpacity: 1, labelLimit: 220 },
    },
  };
}
