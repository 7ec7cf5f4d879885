// One plot as a picture. This file alone needs the library; it is loaded when something is drawn.

import type { TopLevelSpec } from 'vega-lite';
import { CONFIG, layout, svg } from './chart.js';
import type { Axis, Cell, Plot } from './findings.js';
import { cellText, heading, type Unit, unitOf } from './format.js';
import { heatMap } from './heat-map.js';
import { placed } from './labels.js';
import { seriesChannels, seriesOf } from './series.js';
import { textWidth } from './text-width.js';

/** Pages on which a picture keeps its size. */
const SIZES = { wide: { width: 900, height: 380 }, narrow: { width: 326, height: 280 } } as const;
/** Of axes and legends, as the configuration has them. */
const LABELS = { fontSize: 12 } as const;
/** More points than these on a line are a line. */
const POINTS_ON_LINE = 30;

/** Draws a plot, all of whose rows have their place in it. */
export async function draw(plot: Plot, size: keyof typeof SIZES): Promise<string> {
  const { width, height } = SIZES[size];
  const specification =
    plot.kind === 'heat-map' ? heatMap(plot, width) : await chart(plot, width, height, size === 'narrow');
  return (await svg({ ...specification, description: cellText(plot.title) } as TopLevelSpec)).trim();
}

interface Datum {
  readonly x: Cell;
  readonly y: number;
  readonly series: string;
  readonly label: string;
}

async function chart(plot: Plot, width: number, height: number, narrow: boolean): Promise<TopLevelSpec> {
  const { x, kind, label } = plot;
  const ordinal = kind === 'bars' || x.scale === 'ordinal' || plot.rows.some((row) => typeof row[x.key] === 'string');
  const units = { x: unitFor(x, plot), y: unitFor(plot.y, plot) };
  const values: Datum[] = plot.rows.map((row) => ({
    x: ordinal ? cellText(row[x.key], x.format) : (row[x.key] as number) / units.x.size,
    y: (row[plot.y.key] as number) / units.y.size,
    series: seriesOf(plot, row),
    label: label === undefined ? '' : shortened(cellText(row[label]), narrow ? 16 : 32),
  }));
  const names = [...new Set(values.map(({ series }) => series))];
  const { color, shape, dash } = seriesChannels(names, names.length > 1 ? legendFor(names, width) : null);
  const encoding = {
    x: ordinal ? wordsX(x, values, width, narrow) : numbersX(x, values, units.x, narrow),
    y: numbersY(plot, values, units.y, narrow),
    color,
  };
  const config = { axisX: { titleLimit: width - 80 }, axisY: { titleLimit: height } };
  const autosize = { type: 'fit-x', contains: 'padding' };
  const whole = { width, height, autosize, config: { ...CONFIG, ...config }, data: { values } };
  if (kind === 'bars') {
    const beside = names.length > 1 ? { xOffset: { field: 'series', type: 'nominal', sort: names } } : {};
    const few = new Set(values.map((value) => value.x)).size * names.length < 4;
    const mark = { type: 'bar', cornerRadiusEnd: 2, ...(few ? { width: { band: 0.4 } } : {}) };
    const bars = { mark, encoding: { ...encoding, ...beside } };
    return { ...whole, ...bars } as TopLevelSpec;
  }
  const size = kind === 'points' ? 90 : 55;
  const points = { mark: { type: 'point', filled: true, opacity: 1, size }, encoding: { ...encoding, shape } };
  if (kind === 'points') {
    const bare = { ...whole, layer: [points] } as TopLevelSpec;
    if (label === undefined) return bare;
    return { ...whole, layer: [points, await labels(bare, values, encoding, ordinal)] } as TopLevelSpec;
  }
  const line = { mark: { type: 'line', strokeWidth: 2 }, encoding: { ...encoding, strokeDash: dash } };
  const longest = names
    .map((name) => values.filter(({ series }) => series === name).length)
    .reduce((most, length) => Math.max(most, length), 0);
  return { ...whole, layer: longest > POINTS_ON_LINE ? [line] : [line, points] } as TopLevelSpec;
}

function wordsX(x: Axis, values: readonly Datum[], width: number, narrow: boolean) {
  const places = [...new Set(values.map(({ x }) => String(x)))];
  const room = (width - 70) / places.length;
  const labelAngle = places.some((place) => textWidth(LABELS, place) + 6 > room) ? -35 : 0;
  const axis = { labelAngle, labelLimit: narrow ? 90 : 160, grid: false };
  return { field: 'x', type: 'ordinal', title: heading(x.title), scale: { domain: places }, axis };
}

function numbersX(x: Axis, values: readonly Datum[], unit: Unit, narrow: boolean) {
  const type = x.scale === 'log' || x.scale === 'symlog' ? { type: x.scale } : { type: 'linear', zero: false };
  const numbers = values.map((value) => value.x as number);
  return {
    field: 'x',
    type: 'quantitative',
    title: titled(x, unit),
    scale: { ...type, nice: false, padding: 12 },
    axis: { ...axisOf(x, numbers, narrow), grid: false },
  };
}

function numbersY(plot: Plot, values: readonly Datum[], unit: Unit, narrow: boolean) {
  const numbers = values.map(({ y }) => y);
  return {
    field: 'y',
    type: 'quantitative',
    title: titled(plot.y, unit),
    scale: scaleOfY(plot, numbers),
    axis: axisOf(plot.y, numbers, narrow),
  };
}

/** Words beside the points: where there is room for them is known once all else is laid out. */
async function labels(bare: TopLevelSpec, values: readonly Datum[], encoding: object, ordinal: boolean) {
  const view = await layout(bare);
  const scales = { x: view.scale('x'), y: view.scale('y') };
  const middle = ordinal ? (scales.x.bandwidth?.() ?? 0) / 2 : 0;
  const points = values.map(({ x, y, label }) => ({ x: scales.x(x) + middle, y: scales.y(y), text: label }));
  const where = placed(points, view.signal('width'), view.signal('height'));
  const words = values.map((value, index) => ({ ...value, ...where[index] })).filter(({ shown }) => shown);
  const { x, y, color } = encoding as Record<string, object>;
  return {
    data: { values: words },
    mark: {
      type: 'text',
      fontSize: 12,
      baseline: 'middle',
      align: { expr: 'datum.align' },
      dx: { expr: 'datum.dx' },
      dy: { expr: 'datum.dy' },
    },
    encoding: { x, y, color, text: { field: 'label' } },
  };
}

/** From zero on where that is near, or where lengths count; else with some room around the values. */
function scaleOfY({ kind, y: { scale } }: Plot, numbers: readonly number[]) {
  if (scale === 'log' || scale === 'symlog') return { type: scale, nice: false, padding: 12 };
  const least = numbers.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const most = numbers.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  // Nothing but zeros is at the bottom, not in the middle.
  if (least === 0 && most === 0) return { type: 'linear' as const, domain: [0, 1] };
  const zero = kind === 'bars' || (least >= 0 && least < 0.4 * most);
  return { type: 'linear' as const, nice: true, zero, ...(zero ? {} : { padding: 8 }) };
}

function unitFor({ key, format }: Axis, { rows }: Plot): Unit {
  const numbers = rows.map((row) => row[key]).filter((cell): cell is number => typeof cell === 'number');
  return unitOf(
    format,
    numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0),
  );
}

function titled(axis: Axis, { name }: Unit): string {
  const title = heading(axis.title);
  return name === '' || title.includes(`(${name})`) || title.includes(`, ${name}`) ? title : `${title} (${name})`;
}

/** Ticks where there are values, if those are few and whole; on a logarithmic scale at the powers of ten, and between them where it spans few. */
function axisOf({ scale }: Axis, numbers: readonly number[], narrow: boolean) {
  const once = [...new Set(numbers)].toSorted((a, b) => a - b);
  if (once.length === 1) return { values: once, format: '.4~g' };
  if (scale === 'log') {
    const [least = 1, most = 1] = [once[0], once.at(-1)];
    if (once.every(Number.isInteger) && once.length <= 8) return { values: once, format: '~s' };
    return { values: logarithmicTicks(least, most), format: '~g' };
  }
  return { tickCount: narrow ? 4 : 7 };
}

/** Ticks that look evenly spaced: powers of ten, or 1, 2 and 5 times them where fewer than three would be seen. */
function logarithmicTicks(least: number, most: number): number[] {
  const powers: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) powers.push(power);
  const at = (steps: readonly number[]): number[] =>
    powers.flatMap((power) => steps.map((step) => Number(`${step}e${power}`)));
  const seen = (ticks: readonly number[]): number => ticks.filter((tick) => tick >= least && tick <= most).length;
  return [at([1]), at([1, 2, 5])].find((ticks) => seen(ticks) >= 3) ?? at([1, 1.5, 2, 3, 4, 5, 6, 8]);
}

function legendFor(names: readonly string[], width: number) {
  const longest = names.reduce((most, name) => Math.max(most, textWidth(LABELS, name)), 1);
  // Legends begin where the plot does, behind its axis. A name goes on to the edge of the picture before it is cut.
  const limit = width - 110;
  const columns = Math.max(1, Math.floor((width - 40) / (Math.min(longest, limit) + 40)));
  return {
    orient: 'top' as const,
    columns: Math.min(columns, names.length),
    labelLimit: limit,
    offset: 10,
    symbolStrokeWidth: 2,
  };
}

function shortened(text: string, longest: number): string {
  const letters = [...text];
  return letters.length <= longest ? text : `${letters.slice(0, longest - 1).join('')}…`;
}
