// How plots look: the same on pages that are light and on pages that are dark.

import { parse, textMetrics, View } from 'vega';
import { type Config, compile, type TopLevelSpec } from 'vega-lite';
import { type PlottedText, textWidth } from './text-width.js';

// Of vega's, and not in its types.
declare module 'vega' {
  const textMetrics: { width: (item: PlottedText, text: unknown) => number };
}

textMetrics.width = (item, text) => textWidth(item, text === undefined || text === null ? '' : String(text).trim());

export const INK = '#1f2328';
export const GRID = '#d8dee4';
export const PAPER = '#ffffff';
/**
 * Colors of series on light and on dark pages, after Okabe and Ito: told apart by readers who do not see red or green as others do,
 * and each at least 3 : 1 against its page.
 */
const SERIES: readonly (readonly [light: string, dark: string])[] = [
  ['#0072b2', '#56b4e9'],
  ['#c24e00', '#f28e4b'],
  ['#007f5f', '#2fc79d'],
  ['#a8457f', '#e79cc6'],
  ['#8a6a00', '#f0d24a'],
  ['#5b4fc4', '#a89ff5'],
  ['#6a737d', '#b1bac4'],
];
/** The colors of series, as they are on light pages. */
export const COLORS: readonly string[] = SERIES.map(([light]) => light);
/** What colors become where pages are dark. */
const DARK: Readonly<Record<string, string>> = {
  [INK]: '#e6edf3',
  [GRID]: '#30363d',
  [PAPER]: '#0d1117',
  ...Object.fromEntries(SERIES),
};

export const CONFIG: Config = {
  font: 'system-ui, sans-serif',
  view: { stroke: GRID },
  title: { color: INK, subtitleColor: INK, anchor: 'start', fontSize: 14, fontWeight: 'bold', subtitleFontSize: 12 },
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
  legend: {
    labelColor: INK,
    titleColor: INK,
    labelFontSize: 12,
    titleFontSize: 12,
    titleFontWeight: 'normal',
    symbolSize: 80,
    symbolOpacity: 1,
  },
};

/** A plot that is laid out but not drawn: it knows where values are. */
export async function layout(specification: TopLevelSpec): Promise<View> {
  const { spec } = compile({ background: PAPER, padding: 14, config: CONFIG, ...specification });
  return new View(parse(spec), { renderer: 'none' }).runAsync();
}

/** The plot as an SVG, with a comment in it where one is given. */
export async function svg(specification: TopLevelSpec, comment?: string): Promise<string> {
  const drawn = await (await layout(specification)).toSVG();
  const rules = Object.entries(DARK).map(
    ([light, dark]) => `[fill="${light}"]{fill:${dark}}[stroke="${light}"]{stroke:${dark}}`,
  );
  const style = `<style>@media screen and (prefers-color-scheme:dark){${rules.join('')}}</style>`;
  const marked = `${comment === undefined ? '' : `<!-- ${comment} -->`}${style}`;
  return `${drawn.replace(/<svg [^>]*>/, (open) => `${open}${marked}`)}\n`;
}
