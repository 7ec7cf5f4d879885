import { labelOf, PARTS, type Row, secondsOf } from './rows.js';

const isFloat16 = (row: Row): boolean => row.engine === 'gear-kv' && row.cache === 'float16';
const isPeer = (row: Row): boolean => row.engine === 'llama.cpp' && row.cache === 'f16' && row.flashAttention;
const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const times = (value: number, base: number | undefined): string =>
  base === undefined || base === 0 ? '–' : `${(value / base).toFixed(2)} x`;

/** Tables for people: one a measure. Ratios above 1 are better than what they are compared with. */
export function report(rows: readonly Row[]): string {
  const tables = [
    {
      measure: 'speed',
      title:
        'One sequence. Ratios of decoding: to float16 on the same engine, and to llama.cpp with f16 and flash attention.',
      table: speed,
    },
    {
      measure: 'memory',
      title:
        "Peak memory on top of the loaded model, at equal batch and length. Ratio: the peak with a 16-bit cache on the same engine to this row's.",
      table: memory,
    },
    {
      measure: 'budget',
      title:
        'The largest batch whose caches fit where a few sequences do as float16. Ratios of decoding, all sequences together.',
      table: budget,
    },
  ] as const;
  return tables
    .map(({ measure, title, table }) => ({ title, table, its: rows.filter((row) => row.measure === measure) }))
    .filter(({ its }) => its.length > 0)
    .map(({ title, table, its }) => `${title}\n${table(its)}`)
    .join('\n\n');
}

interface Compared {
  row: Row;
  own: Row | undefined;
  peer: Row | undefined;
}

const BATCH_HEAD = ['engine', 'cache', 'batch', 'context', 'caches MB', 'peak MB'];

function batchCells(row: Row): (string | number)[] {
  const { engine, batch, context, cacheBytes, peakBytesOverModel } = row;
  return [engine, labelOf(row), batch, context, megabytes(cacheBytes), megabytes(peakBytesOverModel)];
}

const DECODE_HEAD = ['decode t/s', 'of float16', 'of llama.cpp'];

function decodeCells({ row, own, peer }: Compared): string[] {
  const rate = row.decodeTokensPerSecond;
  return [rate.toFixed(1), times(rate, own?.decodeTokensPerSecond), times(rate, peer?.decodeTokensPerSecond)];
}

/** Rows with those that they are compared with: of the same length, give or take a few tokens of another tokenizer. */
function compared(rows: readonly Row[]): Compared[] {
  return rows.map((row) => {
    const same = rows.filter(({ context }) => Math.abs(context - row.context) < 32);
    return { row, own: same.find(isFloat16), peer: same.find(isPeer) };
  });
}

function speed(rows: readonly Row[]): string {
  const head = ['engine', 'cache', 'context', 'prefill t/s', ...DECODE_HEAD, 'cache MB'];
  const lines = compared(rows).map((line) => {
    const { row } = line;
    const { split } = row;
    return [
      row.engine,
      labelOf(row),
      row.context,
      row.prefillTokensPerSecond.toFixed(0),
      ...decodeCells(line),
      megabytes(row.cacheBytes),
      ...PARTS.map((part) => (split === undefined ? '–' : `${((100 * split[part]) / secondsOf(split)).toFixed(0)} %`)),
    ];
  });
  return aligned([[...head, ...PARTS], ...lines]);
}

function memory(rows: readonly Row[]): string {
  const head = [...BATCH_HEAD, 'times smaller', 'model MB'];
  const lines = compared(rows).map(({ row, own, peer }) => [
    ...batchCells(row),
    times((row.engine === 'gear-kv' ? own : peer)?.peakBytesOverModel ?? 0, row.peakBytesOverModel),
    megabytes(row.loadedBytes),
  ]);
  return aligned([head, ...lines]);
}

function budget(rows: readonly Row[]): string {
  const head = [...BATCH_HEAD, ...DECODE_HEAD];
  const lines = compared(rows).map((line) => [...batchCells(line.row), ...decodeCells(line)]);
  return aligned([head, ...lines]);
}

function aligned(lines: readonly (readonly (string | number)[])[]): string {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => String(line[i]).length)));
  return lines
    .map((line) =>
      line
        .map((cell, i) => (i < 2 ? String(cell).padEnd(widths[i] ?? 0) : String(cell).padStart(widths[i] ?? 0)))
        .join('  '),
    )
    .join('\n');
}
