// benches/report/README.md: the plots with the figures behind them.

import { DESCRIPTIONS, type Drawn } from './drawn.js';
import type { Axis } from './points.js';
import type { Machine } from './record.js';

interface Section {
  axis: Axis;
  rows: readonly Drawn[];
}

const ABOUT = `Written by \`npm run bench:growth\`; what is measured, and how, stands in [benches/README.md](../README.md).

Rates count keys and values as float32, whatever a cache keeps of them, so that the curve of \`float32\` is what memory gives, and any other is how fast the
same attention goes on fewer bytes. Higher is better. 8 KV heads, each shared by 1 or 4 query heads; 128 channels, 8192 tokens (32768 where threads grow) and one thread
where nothing else is said. \`float32\` and \`float16\` are caches that are not compressed, in the order that suits them best.`;

export function page({ processor, cores, instructions }: Machine, sections: readonly Section[]): string {
  const machine = `${processor}, ${cores} cores, ${instructions}`;
  return `# Growth\n\n${ABOUT}\n\nMeasured on: ${machine}.\n\n${sections.map(section).join('\n\n')}\n`;
}

function section({ axis, rows }: Section): string {
  const { title, x } = DESCRIPTIONS[axis];
  return `## ${title}\n\n![${title}](${axis}.svg)\n\n${axis === 'presets' ? presetTable(rows) : table(x, rows)}`;
}

const ms = (milliseconds: number): string => milliseconds.toPrecision(3);
const row = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
const ruled = (head: readonly string[], lines: readonly (readonly (string | number)[])[]): string =>
  [row(head), row(head.map((_, i) => (i === 0 ? '---' : '---:'))), ...lines.map(row)].join('\n');

/** A decoding step of every cache, with one and with four query heads a KV head. */
function table(x: string, rows: readonly Drawn[]): string {
  const names = [...new Set(rows.map(({ name }) => name))];
  const lines = [...new Set(rows.map((one) => one.x))].map((place) => [
    place,
    ...names.map((name) => {
      const one = rows.find((other) => other.x === place && other.name === name);
      return one === undefined ? '' : `${ms(one.attend1Milliseconds)} / ${ms(one.attend4Milliseconds)}`;
    }),
  ]);
  return `ms of a decoding step, with one / four query heads a KV head:\n\n${ruled([x, ...names], lines)}`;
}

function presetTable(rows: readonly Drawn[]): string {
  const lines = rows.map((one) => [
    `\`${one.name}\``,
    (one.bytes / 1e6).toFixed(2),
    ms(one.attend1Milliseconds),
    ms(one.attend4Milliseconds),
    ms(one.promptMilliseconds),
  ]);
  return ruled(['', 'MB', 'ms of a step, 1:1', 'ms of a step, 4:1', 'ms of a prompt'], lines);
}
