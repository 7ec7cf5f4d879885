// Tables of answers: what right answers, float16's answers and sizes come to.

import type { AnsweredExample, CacheAnswer } from './answering.js';
import { mean } from './mean.js';
import type { Cell, Column, Table } from './report/findings.js';
import { cellText } from './report/format.js';

/** A cache over all examples. A type and not an interface, so that it is a row of a table and of a plot as it is. */
export type CacheScore = {
  readonly cache: string;
  readonly examples: number;
  readonly bits: number | null;
  readonly accuracy: number;
  readonly ended: number;
  /** Of the answers that there are on float16; null where there is none. */
  readonly same: number | null;
  /** Examples that get an answer on float16. */
  readonly answered: number;
  readonly identical: number;
  /** Tokens before the first that differs from float16's, on the average; whole answers where none does. */
  readonly until: number;
  readonly kl: number | null;
  readonly top1: number | null;
};

/** The caches in the order in which they answered. */
export function scores(examples: readonly AnsweredExample[]): CacheScore[] {
  const names = examples[0]?.answers.map(({ cache }) => cache) ?? [];
  return names.map((cache) =>
    score(
      cache,
      examples.flatMap(({ answers }) => answers.filter((one) => one.cache === cache)),
    ),
  );
}

function score(cache: string, answers: readonly CacheAnswer[]): CacheScore {
  const share = (test: (answer: CacheAnswer) => boolean): number => answers.filter(test).length / answers.length;
  return {
    cache,
    examples: answers.length,
    bits: meanOfKnown(answers.map(({ bits }) => bits)),
    accuracy: share(({ correct }) => correct),
    ended: share(({ ended }) => ended),
    same: meanOfKnown(answers.map(({ same }) => (same === null ? null : Number(same)))),
    answered: answers.filter(({ same }) => same !== null).length,
    identical: share(({ identical }) => identical),
    until: mean(answers.map(({ until }) => until)),
    kl: meanOfKnown(answers.map(({ kl }) => kl)),
    top1: meanOfKnown(answers.map(({ top1 }) => top1)),
  };
}

function meanOfKnown(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : mean(known);
}

const COLUMNS: readonly Column[] = [
  { key: 'cache', heading: 'cache' },
  { key: 'bits', heading: 'bits per value', format: { digits: 2 } },
  { key: 'accuracy', heading: 'right', format: 'percent' },
  { key: 'same', heading: "float16's answer", format: 'percent' },
  { key: 'ended', heading: 'came to an end', format: 'percent' },
  { key: 'identical', heading: 'same text', format: 'percent' },
  { key: 'until', heading: 'tokens until it differs', format: { digits: 1 } },
  { key: 'kl', heading: 'KL', format: { digits: 4 } },
  { key: 'top1', heading: 'same next token', format: 'percent' },
];

/** What the columns of {@link scoreTable} are, for its note. */
export const SCORES_NOTE =
  "Right: the final answer is the right one. Float16's answer: it is the one that is given on a float16 cache, right or wrong; only where that comes to one. Came to an end: within the most tokens of an answer (--max-tokens); one that was cut off counts only where it says what the answer is. Tokens until it differs: of the greedy answer, beside float16's. " +
  'KL (nats) and same next token: along float16’s answer, token by token. Bits: of the prompt, everything counted.';

/** Scores as a table; `more` stand behind the cache's name. */
export function scoreTable(
  id: string,
  title: string,
  rows: readonly CacheScore[],
  more: readonly Column[] = [],
  note: string = SCORES_NOTE,
): Table {
  const [first] = rows;
  const [name, ...rest] = COLUMNS as [Column, ...Column[]];
  const kept = rest.filter(({ key }) => rows.some((row) => (row as Readonly<Record<string, Cell>>)[key] !== null));
  return {
    id,
    title,
    note: `${first?.examples ?? 0} examples, ${first?.answered ?? 0} of them with an answer on float16. ${note}`,
    columns: [name, ...more, ...kept],
    rows,
  };
}

/** Divergence below which a cache counts as near, in nats. */
const NEAR = 0.01;

/** What the scores say, in a sentence. */
export function scoreSentence(of: string, rows: readonly CacheScore[]): string {
  const exact = rows.find(({ cache }) => cache === 'float16');
  const others = rows.filter(({ cache }) => cache !== 'float16' && !cache.startsWith('float16 '));
  const near = others.filter(({ kl, bits }) => kl !== null && kl < NEAR && bits !== null);
  const smallest = near.sort((a, b) => (a.bits ?? 0) - (b.bits ?? 0))[0];
  const closest = [...others].sort(
    (a, b) => (a.kl ?? Number.POSITIVE_INFINITY) - (b.kl ?? Number.POSITIVE_INFINITY),
  )[0];
  const best = smallest ?? closest;
  if (exact === undefined || best === undefined) return `${of}: nothing to compare.`;
  return (
    `${of}: ${cellText(exact.accuracy, 'percent')} right on float16. ${smallest === undefined ? 'Closest to it is' : `The smallest cache within a KL of ${NEAR} is`} ${best.cache} with ${(best.bits ?? Number.NaN).toFixed(2)} bits: ` +
    `${cellText(best.accuracy, 'percent')} right, ${best.same === null ? '' : `${cellText(best.same, 'percent')} of float16's ${best.answered} answers the same, `}KL ${(best.kl ?? Number.NaN).toFixed(4)}.`
  );
}
