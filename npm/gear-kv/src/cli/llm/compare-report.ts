import type { Preset } from '../../options.js';
import { bytesText, table } from '../table.js';

/** One preset's answer beside that of the float16 cache. */
export interface ComparisonRow {
  preset: Preset;
  answer: string;
  answerTokens: number;
  /** Tokens at the beginning that are those of the float16 cache's answer. */
  sameTokens: number;
  /** Share of that answer's tokens that this cache would have chosen, too. */
  top1: number;
  /** Mean divergence of the next token's distribution along that answer, in nats. */
  kl: number;
  cacheTokens: number;
  cacheBytes: number;
  /** Of float16. */
  cacheShare: number;
  /** Bytes of the process with the model alone. */
  modelBytes: number;
  /** The most on top of that while it answered. */
  peakBytes: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
}

/** The table, and a sentence that says what it means. */
export function comparisonReport(rows: readonly ComparisonRow[]): string {
  const columns = [
    { heading: 'cache', align: 'left' },
    { heading: 'bytes' },
    { heading: 'of float16' },
    { heading: 'peak memory' },
    { heading: 'prompt tok/s' },
    { heading: 'answer tok/s' },
    { heading: 'same tokens' },
    { heading: 'same choice' },
    { heading: 'KL' },
  ] as const;
  const cells = rows.map((row) => [
    row.preset,
    bytesText(row.cacheBytes),
    percent(row.cacheShare),
    `+${bytesText(row.peakBytes)}`,
    row.prefillTokensPerSecond.toFixed(0),
    row.decodeTokensPerSecond.toFixed(1),
    `${row.sameTokens} of ${row.answerTokens}`,
    percent(row.top1),
    row.kl.toPrecision(2),
  ]);
  const [reference, ...others] = rows;
  const sentences = others.map(
    ({ preset, cacheShare, top1 }) =>
      `${preset} keeps the conversation in ${percent(cacheShare)} of float16 and chooses the same token at ${percent(top1)} of the answer`,
  );
  const model = reference === undefined ? '' : ` (the model itself: ${bytesText(reference.modelBytes)})`;
  return (
    `${table(columns, cells)}\nPeak memory is on top of the process with its model${model}. 'Same choice' follows the ` +
    `float16 answer word by word.\n${sentences.join('; ')}${sentences.length > 0 ? '.\n' : ''}`
  );
}

function percent(fraction: number): string {
  return `${(100 * fraction).toFixed(1)} %`;
}
