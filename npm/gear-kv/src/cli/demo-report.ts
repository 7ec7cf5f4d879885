import type { BackendInfo } from '../backend/selection.js';
import type { DemoRow } from './demo-measure.js';
import { type Column, table } from './table.js';

/** The table, and one line that says what it means. */
export function demoReport(rows: readonly DemoRow[], backends: readonly BackendInfo[]): string {
  const names = backends.map(({ name }) => name);
  const columns: Column[] = [
    { heading: 'preset', align: 'left' },
    { heading: 'bits/element' },
    { heading: 'of float16' },
    { heading: 'K error' },
    { heading: 'V error' },
    { heading: 'attention error' },
    { heading: `compress GB/s ${names.join(' / ')}` },
    { heading: `decompress GB/s ${names.join(' / ')}` },
  ];
  const presets = [...new Set(rows.map(({ preset }) => preset))];
  const cells = presets.map((preset) => {
    const same = names.map((name) => rows.find((row) => row.preset === preset && row.backend === name));
    const speed = (field: 'compressGBps' | 'decompressGBps'): string =>
      same.map((row) => (row === undefined ? '–' : row[field].toFixed(3))).join(' / ');
    // The bytes are the same on every backend, and so are the errors as far as they are shown.
    const [row] = same;
    return row === undefined
      ? [preset]
      : [
          preset,
          row.bitsPerElement.toFixed(2),
          percent(1 / row.ratio),
          row.keyError.toFixed(4),
          row.valueError.toFixed(4),
          row.attentionError.toFixed(4),
          speed('compressGBps'),
          speed('decompressGBps'),
        ];
  });
  const machines = backends.map(({ name, simd }) => `${name} (${simd})`).join(' and ');
  return (
    'KV cache of SmolLM2-135M-Instruct: 4 layers, 3 heads, 512 tokens, the last 64 streamed one by one.\n' +
    'Sizes count everything, also the newest tokens, which wait in the buffer uncompressed. Errors are relative, against\n' +
    `float32. GB/s are of float16 K and V, on ${machines}.\n\n` +
    `${table(columns, cells)}${meaning(rows)}`
  );
}

function meaning(rows: readonly DemoRow[]): string {
  const [first] = rows;
  const row = rows.find(({ preset }) => preset === 'gear-4') ?? first;
  if (row === undefined) return '';
  const frontier = tradeOffs(rows.filter(({ backend }) => backend === row.backend));
  return (
    `\n${row.preset} keeps this cache at ${percent(1 / row.ratio)} of its float16 size (${row.ratio.toFixed(1)} times smaller) and changes what ` +
    `attention returns by ${percent(row.attentionError)}; no preset is both smaller and more exact than ${frontier.join(', ')}.\n`
  );
}

/** The compressing presets that no other beats in size and attention error at once, the smallest first. */
function tradeOffs(rows: readonly DemoRow[]): string[] {
  const beats = (a: DemoRow, b: DemoRow): boolean =>
    a.ratio >= b.ratio &&
    a.attentionError <= b.attentionError &&
    (a.ratio > b.ratio || a.attentionError < b.attentionError);
  const compressing = rows.filter(({ preset }) => !preset.startsWith('float'));
  return compressing
    .filter((row) => !compressing.some((other) => beats(other, row)))
    .sort((a, b) => b.ratio - a.ratio)
    .map(({ preset }) => preset);
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}
