// What tells one series of a plot from another: its color, its shape, and the dashes of its line.

import { COLORS, INK } from './chart.js';
import type { Plot } from './findings.js';
import { cellText } from './format.js';

const SHAPES = ['circle', 'square', 'triangle-up', 'diamond', 'cross', 'triangle-down', 'triangle-right'];
const DASHES = [[], [6, 3], [2, 2], [8, 3, 2, 3]];

/** The name of a row's series, as it is in the legend. */
export function seriesOf({ series }: Plot, row: Plot['rows'][number]): string {
  return series === undefined ? '' : cellText(row[series]);
}

/**
 * What a series is drawn with, all in one legend. The uncompressed cache has the color of text, so that it is the same in every
 * plot.
 */
export function seriesChannels(names: readonly string[], legend: object | null) {
  let next = 0;
  const places = names.map((name) => (/^(float|f|fp)(16|32)$/i.test(name) ? -1 : next++));
  const channel = (range: readonly unknown[]) => ({
    field: 'series',
    type: 'nominal',
    title: null,
    scale: { domain: names, range },
    legend,
  });
  return {
    color: channel(places.map((place) => (place < 0 ? INK : COLORS[place % COLORS.length]))),
    shape: channel(places.map((place) => SHAPES[(place + 1) % SHAPES.length])),
    dash: channel(places.map((place) => DASHES[Math.max(0, Math.floor(place / COLORS.length)) % DASHES.length])),
  };
}
