// A heat map as a specification: a field for each pair, its number written into it.

import type { TopLevelSpec } from 'vega-lite';
import { INK } from './chart.js';
import type { Axis, Cell, Plot } from './findings.js';
import { cellText, heading } from './format.js';

/** Text on dark and on light fields. They are the same on every page, and so are these. */
const ON_DARK = '#fdfdfd';
const ON_LIGHT = '#101010';
/** The middle of cividis is as far from black as from white about here. */
const TURN = 0.45;

/** The specification, `width` pixels wide over all. */
export function heatMap(plot: Plot, width: number): TopLevelSpec {
  const { x, y, value = { key: '', title: '' }, rows } = plot;
  const columns = places(rows.map((row) => row[x.key] ?? null));
  const lines = places(rows.map((row) => row[y.key] ?? null)).toReversed();
  const logarithmic = value.scale === 'log';
  const heights = rows
    .map((row) => row[value.key])
    .filter((cell): cell is number => Number.isFinite(cell) && (!logarithmic || (cell as number) > 0));
  const scale = logarithmic ? Math.log : (number: number): number => number;
  const least = scale(heights.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY));
  const most = scale(heights.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY));
  const values = rows.map((row) => {
    const cell = row[value.key] ?? null;
    const known = typeof cell === 'number' && heights.includes(cell);
    const share = known && most > least ? (scale(cell) - least) / (most - least) : 0.5;
    return {
      x: placeText(row[x.key], x),
      y: placeText(row[y.key], y),
      text: fieldText(cell, value.format),
      share: known ? share : undefined,
      ink: !known ? INK : share < TURN ? ON_DARK : ON_LIGHT,
    };
  });
  const field = Math.max(34, Math.min(84, Math.floor((width - 90) / Math.max(1, columns.length))));
  const longest = values.reduce((most, { text }) => Math.max(most, text.length), 1);
  const fontSize = Math.max(7, Math.min(14, Math.floor((field - 6) / (longest * 0.6))));
  const axis = {
    labelAngle: 0,
    titleLimit: Math.max(120, field * columns.length),
    labelLimit: Math.max(60, width / 4),
    domain: false,
    ticks: false,
    labelPadding: 6,
  };
  return {
    width: field * columns.length,
    height: Math.max(28, Math.round(field * 0.62)) * lines.length,
    title: { text: titled(value), fontSize: 13, fontWeight: 'normal', offset: 10, limit: width - 30 },
    data: { values },
    encoding: {
      x: {
        field: 'x',
        type: 'ordinal',
        title: heading(x.title),
        scale: { domain: columns.map((cell) => placeText(cell, x)) },
        axis: { ...axis, labelLimit: field, titlePadding: 8 },
      },
      y: {
        field: 'y',
        type: 'ordinal',
        title: heading(y.title),
        scale: { domain: lines.map((cell) => placeText(cell, y)) },
        axis,
      },
    },
    layer: [
      {
        data: { values: values.filter(({ share }) => share !== undefined) },
        // vega-lite fails on invalid values to be left out where a mark can have none.
        mark: { type: 'rect', invalid: null },
        encoding: {
          color: { field: 'share', type: 'quantitative', legend: null, scale: { scheme: 'cividis', domain: [0, 1] } },
        },
      },
      {
        mark: { type: 'text', fontSize, invalid: null, color: { expr: 'datum.ink' } },
        encoding: { text: { field: 'text' } },
      },
    ],
  };
}

/** A place on an axis: `5 %`, not `5.0 %`. */
function placeText(cell: Cell | undefined, { format }: Axis): string {
  return cellText(cell, format).replace(/\.0+ /, ' ');
}

/** Percentages without their sign, which is in the title: fields are small. */
function fieldText(cell: Cell, format: Plot['x']['format']): string {
  return cellText(cell, format).replace(/ %$/, '');
}

/** Every place once: numbers by size, words as they come. */
function places(cells: readonly Cell[]): readonly Cell[] {
  const once = [...new Set(cells)];
  return once.every((cell) => typeof cell === 'number') ? once.toSorted((a, b) => a - b) : once;
}

function titled({ title, format }: Axis): string {
  return format === 'percent' && !title.includes('%') ? `${heading(title)} (%)` : heading(title);
}
