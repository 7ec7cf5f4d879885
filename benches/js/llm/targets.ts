// What was asked of the engine, and what this run reached. Only rows that were measured have any.

import { checked, type Target } from '../target.js';
import { type Row, secondsOf } from './rows.js';

/** Tokens of context from which on attention is what counts, and that is 8k but for what is decoded and a few tokens of another tokenizer. */
const LONG = 4000;
const LONGEST = 7900;
const SHORT = 300;

export function targets(rows: readonly Row[]): Target[] {
  const speed = rows.filter(({ measure }) => measure === 'speed');
  return [...speed.filter(isGear).flatMap((row) => speedTargets(row, speed)), ...budgetTargets(rows)];
}

const isGear = ({ engine, cache }: Row): boolean => engine === 'gear-kv' && cache === 'gear-4';
const isFloat16 = ({ engine, cache }: Row): boolean => engine === 'gear-kv' && cache === 'float16';

function speedTargets(row: Row, all: readonly Row[]): Target[] {
  const { context, decodeTokensPerSecond: rate, prefillTokensPerSecond: prefill } = row;
  const same = all.filter((other) => Math.abs(other.context - context) < 32);
  const own = same.find(isFloat16);
  // Flash attention on or off, whichever is faster.
  const peers = same.filter(({ engine, cache }) => engine === 'llama.cpp' && cache === 'f16');
  const best = peers.toSorted((a, b) => b.decodeTokensPerSecond - a.decodeTokensPerSecond)[0];
  const fastestPrefill = Math.max(...peers.map(({ prefillTokensPerSecond }) => prefillTokensPerSecond));
  const of = `gear-4 at ${context} tokens`;
  const found: (Target | false | undefined)[] = [
    best !== undefined &&
      (context >= LONGEST || context <= SHORT) &&
      times(
        `${of}: decoding, times llama.cpp's best float16`,
        context >= LONGEST ? 2 : 0.6,
        rate,
        best.decodeTokensPerSecond,
      ),
    context >= LONGEST && own && times(`${of}: decoding, times our own float16`, 1.3, rate, own.decodeTokensPerSecond),
    context >= LONGEST &&
      best &&
      times(`${of}: taking the prompt in, times llama.cpp's float16`, 1 / 1.5, prefill, fastestPrefill),
    ...(context >= LONG ? partTargets(of, row, own) : []),
  ];
  return found.filter((target) => target !== false && target !== undefined);
}

/** Of a decoding step alone: how much faster attention is, and how little compression takes. */
function partTargets(of: string, row: Row, own: Row | undefined): (Target | undefined)[] {
  const { decodeSplit } = row;
  return [
    own &&
      times(
        `${of}: attention of a step, times as fast as our own float16`,
        2.2,
        1 / attentionOf(row),
        1 / attentionOf(own),
      ),
    decodeSplit &&
      checked({
        target: `${of}: compression's part of decoding`,
        asked: 5,
        atMost: true,
        unit: '%',
        reached: (100 * decodeSplit.compression) / secondsOf(decodeSplit),
      }),
  ];
}

/** Seconds of a decoding step that go into attention. */
function attentionOf({ decodeSplit, decodeTokensPerSecond }: Row): number {
  if (decodeSplit === undefined) return Number.NaN;
  return decodeSplit.attention / secondsOf(decodeSplit) / decodeTokensPerSecond;
}

function budgetTargets(rows: readonly Row[]): Target[] {
  const budget = rows.filter(({ measure }) => measure === 'budget');
  const [ours, own] = [budget.find(isGear), budget.find(isFloat16)];
  if (ours === undefined || own === undefined) return [];
  const target = 'gear-4 in the memory of a few float16 caches: decoding, times our own float16';
  return [times(target, 2.38, ours.decodeTokensPerSecond, own.decodeTokensPerSecond)];
}

function times(target: string, asked: number, ours: number, base: number): Target {
  return checked({ target, asked, unit: 'x', reached: ours / base });
}
