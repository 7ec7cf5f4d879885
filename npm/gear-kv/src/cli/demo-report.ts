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
    { heading: 'attention' },
    { heading: 'compress GB/s' },
    { heading: 'decompress GB/s' },
  ];
  const presets = [...new Set(rows.map(({ preset }) => preset))];
  const cells = presets.map((preset) => {
    const same = names.map((name) => rows.find((row) => row.preset === preset && row.backend === name));
    const speed = (field: 'compressGBps' | 'decompressGBps'): string =>
      same.map((row) => (row === undefined ? '–' : row[field].toFixed(2).padStart(5))).join(' / ');
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
    'KV cache of SmolLM2-135M-Instruct: 4 layers, 3 heads of 64, 512 tokens, the last 64 streamed one by one.\n' +
    'Sizes count every byte that is kept. Errors are relative to float32: of K, of V, of the output of attention.\n' +
    `GB/s are of float16 K and V, on ${machines}.\n\n` +
    `${table(columns, cells)}${meaning(rows)}`
  );
}

/** What most users want: at most this share of float16, as exact as it gets. */
const HALF = 0.5;

function meaning(rows: readonly DemoRow[]): string {
  const small = rows.filter(({ ratio, backend }) => 1 / ratio <= HALF && backend === rows[0]?.backend);
  const most = (better: (a: DemoRow, b: DemoRow) => boolean): DemoRow | undefined =>
    small.reduce<DemoRow | undefined>((best, row) => (best === undefined || better(row, best) ? row : best), undefined);
  const exact = most((a, b) => a.attentionError < b.attentionError);
  const tiny = most((a, b) => a.ratio > b.ratio);
  if (exact === undefined || tiny === undefined) return '';
  const effect = (row: DemoRow): string =>
    `${percent(1 / row.ratio)} of its float16 size and changes the output of attention by ${percent(row.attentionError)}`;
  const others = exact === tiny ? '' : `; ${tiny.preset}, the smallest, keeps it in ${effect(tiny)}`;
  return (
    `\n${exact.preset} keeps this cache in ${effect(exact)}, ` +
    `the least of all presets that take half of float16 or less${others}.\n`
  );
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}
