// Tables for people.

import type { Measured } from './measure.js';
import type { DecodeMeasured } from './suites/decode.js';
import type { Target } from './target.js';

const digits = (value: number, n = 2): string => (Number.isFinite(value) ? value.toFixed(n) : '–');
const percent = (part: number): string => `${digits(part * 100, 1)} %`;

export function suiteTable({ title, rows }: Measured): string {
  const baselines = Object.keys(rows[0]?.times ?? {});
  const head = ['', 'ms', 'median', 'GB/s', 'MB', ...baselines.map((name) => `× ${name}`)];
  const lines = rows.map((row) => [
    row.name,
    digits(row.milliseconds, 3),
    digits(row.medianMilliseconds, 3),
    row.gigabytesPerSecond === undefined ? '–' : digits(row.gigabytesPerSecond),
    row.bytes === undefined ? '–' : digits(row.bytes / 1e6),
    ...baselines.map((name) => digits(row.times[name] ?? Number.NaN)),
  ]);
  return `${title}\n${aligned([head, ...lines])}`;
}

export function decodeTable({ title, rows }: DecodeMeasured): string {
  const head = ['', 'ms a step', 'append', 'attend', 'append/attend', 'slowest', '× median'];
  const lines = rows.map((row) => [
    row.name,
    digits(row.milliseconds, 3),
    digits(row.appendMilliseconds, 3),
    digits(row.attendMilliseconds, 3),
    percent(row.appendShare),
    digits(row.worstMilliseconds, 3),
    digits(row.worstOverMedian, 1),
  ]);
  return `${title}\n${aligned([head, ...lines])}`;
}

export function targetTable(targets: readonly Target[]): string {
  const head = ['targets', 'asked', 'reached', '', 'bound', ''];
  const lines = targets.map(({ target, asked, atMost, unit, reached, met, bound, boundBy }) => [
    target,
    `${atMost ? '≤' : '≥'} ${Number(asked.toFixed(2))} ${unit}`,
    `${digits(reached)} ${unit}`,
    met ? '✓' : '✗',
    bound === undefined ? '' : `${digits(bound)} ${unit}`,
    boundBy ?? '',
  ]);
  return aligned([head, ...lines], new Set([5]));
}

/** The first column, and those of `left`, begin at the left. */
function aligned(lines: readonly (readonly string[])[], left: ReadonlySet<number> = new Set()): string {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
  const cell = (text: string, i: number): string =>
    i === 0 || left.has(i) ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0);
  return lines.map((line) => `  ${line.map(cell).join('  ').trimEnd()}`).join('\n');
}
