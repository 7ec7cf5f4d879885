// Plots that several experiments have.

import type { Axis, Cell, Plot } from './report/findings.js';

type Row = Readonly<Record<string, Cell>>;

/** Bars beside each other over every cache. */
export function cacheBars(id: string, title: string, y: Axis, series: string, rows: readonly Row[]): Plot {
  return { id, title, kind: 'bars', x: { key: 'cache', title: 'cache' }, y, series, rows };
}

/** Caches as points, by what they take: divergence on a logarithmic scale, shares on a linear one. `method` is their series. */
export function againstSize(
  key: 'kl' | 'same' | 'top1' | 'accuracy',
  title: string,
  rows: readonly Row[],
  size = 'bits per value',
): Plot {
  const isDivergence = key === 'kl';
  return {
    id: key,
    title: `${title} against size`,
    kind: 'points',
    x: { key: 'bits', title: size, format: { digits: 1 } },
    y: isDivergence ? { key, title, scale: 'log' } : { key, title, format: 'percent' },
    series: 'method',
    label: 'cache',
    // Nothing is not on a logarithmic scale.
    rows: isDivergence ? rows.filter((row) => Number(row[key]) > 0) : rows,
  };
}

/** `gear-4` and `gear-2` are one method at two sizes. */
export function methodOf(cache: string): string {
  return cache.replace(/-\d+$/, '');
}
