// How plots look: the same on pages that are light and on pages that are dark.

import { parse, View } from 'vega';
import { type Config, compile, type TopLevelSpec } from 'vega-lite';

export const INK = '#1f2328';
export const GRID = '#d8dee4';
export const PAPER = '#ffffff';
/** What the three become where pages are dark. */
const DARK = { [INK]: '#e6edf3', [GRID]: '#30363d', [PAPER]: '#0d1117' };

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
    labelLimit: 220,
  },
};

/** The plot as an SVG, with a comment in it where one is given. */
export async function svg(specification: TopLevelSpec, comment?: string): Promise<string> {
  const view = new View(parse(compile({ background: PAPER, padding: 14, config: CONFIG, ...specification }).spec), {
    renderer: 'none',
  });
  const drawn = await view.toSVG();
  const rules = Object.entries(DARK).map(
    ([light, dark]) => `[fill="${light}"]{fill:${dark}}[stroke="${light}"]{stroke:${dark}}`,
  );
  const style = `<style>@media (prefers-color-scheme:dark){${rules.join('')}}</style>`;
  const marked = `${comment === undefined ? '' : `<!-- ${comment} -->`}${style}`;
  return `${drawn.replace(/<svg [^>]*>/, (open) => `${open}${marked}`)}\n`;
}
