// Compressing all tokens beside dropping some of them.

import type { EvalPreset } from '../llm/evaluation.js';
import { mathProblems } from './data/tasks.js';
import { eachExample, type MaybeSkipped, tokensOf } from './examples.js';
import type { Context, Experiment, NamedCache, Outcome, Subject } from './experiment.js';
import { mean } from './mean.js';
import { againstSize, methodOf } from './plots.js';
import { reference } from './reference.js';
import { cellText } from './report/format.js';
import { examplesOf, taskOptions } from './task-options.js';

/** Shares of the tokens that are kept. */
const KEPT = [75, 50, 25] as const;
const h2o = (percent: number): EvalPreset => `h2o-${percent / 100}`;

/** A cache along one answer of float16. */
interface Along {
  readonly cache: string;
  readonly bits: number;
  readonly kl: number;
  readonly top1: number;
  /** Tokens that a greedy answer has in common with float16's. */
  readonly until: number;
  readonly identical: boolean;
}

interface Found extends MaybeSkipped {
  readonly rows: readonly Along[];
}

/** `dropping`: GEAR beside H2O. */
export const dropping: Experiment = {
  name: 'dropping',
  title: 'Compressing tokens and dropping them',
  summary: 'against H2O, which drops tokens, keeping 75, 50 and 25 % of them',
  question: 'Is it better to keep all tokens in fewer bits, or some of them in 16?',
  presets: ['gear-4', 'gear-2', 'paper-gear-4', 'paper-gear-2', 'kivi-2'],
  limit: 20,
  async run(context) {
    const tasks = await mathProblems(taskOptions(context));
    context.expect(examplesOf(tasks));
    const { model } = context.subjects[0] as Subject;
    const found = await eachExample(context, tasks, async (task, example): Promise<Found> => {
      const text = await reference(context, model, task, tokensOf(context, model, example.prompt));
      return 'skipped' in text ? { rows: [], ...text } : { rows: await along(context, model, text) };
    });
    return outcome(found);
  },
};

async function along(
  { caches, signal, doing }: Context,
  model: Subject['model'],
  text: { readonly promptTokens: number; readonly tokenIds: readonly number[] },
): Promise<Along[]> {
  const presets: (NamedCache | EvalPreset)[] = [...caches, ...KEPT.map(h2o)];
  const { windows = [] } = await model.evaluate(
    { items: [text] },
    {
      presets,
      perWindow: true,
      onProgress: ({ done, total }) => doing(`cache ${done} of ${total}`),
      ...(signal && { signal }),
    },
  );
  return (windows[0]?.rows ?? []).map(({ preset, bitsPerElement, kl, top1, positionSame }) => {
    const first = positionSame.indexOf(false);
    // The first token comes from the exact prompt, so all caches have it.
    const until = first < 0 ? positionSame.length + 1 : first + 1;
    return { cache: preset, bits: bitsPerElement, kl, top1, until, identical: first < 0 };
  });
}

function outcome(found: readonly Found[]): Outcome {
  const names = found[0]?.rows.map(({ cache }) => cache) ?? [];
  const rows = names.map((cache, index) => {
    const all = found.map(({ rows }) => rows[index] as Along);
    return {
      cache: title(cache),
      method: cache.startsWith('h2o-') ? 'H2O' : methodOf(cache),
      bits: mean(all.map(({ bits }) => bits)),
      kl: mean(all.map(({ kl }) => kl)),
      top1: mean(all.map(({ top1 }) => top1)),
      until: mean(all.map(({ until }) => until)),
      identical: mean(all.map(({ identical }) => Number(identical))),
    };
  });
  const size = 'bits per value (kept tokens have 16)';
  return {
    summary: sentences(rows),
    tables: [
      {
        id: 'dropping',
        title: "Along float16's answers",
        note:
          `${found.length} examples of GSM8k. Each cache goes along the answer that the model gives on float16, and is compared with it at every token. H2O keeps, in each KV head, ` +
          'the tokens that got most attention so far and the newest ones, half each, and drops the others for good; bits are of all tokens, dropped ones among them. ' +
          'Tokens until it differs: of a greedy answer, from which the first token that it would choose otherwise follows. Right answers are not counted: the engine measures H2O and does not answer on it.',
        columns: [
          { key: 'cache', heading: 'cache' },
          { key: 'bits', heading: 'bits per value', format: { digits: 2 } },
          { key: 'kl', heading: 'KL', format: { digits: 4 }, better: 'low' },
          { key: 'top1', heading: 'same next token', format: 'percent', better: 'high' },
          { key: 'until', heading: 'tokens until it differs', format: { digits: 1 }, better: 'high' },
          { key: 'identical', heading: 'same answer', format: 'percent', better: 'high' },
        ],
        rows: rows.map(({ method: _, ...row }) => row),
      },
    ],
    plots: [
      againstSize('kl', 'KL from float16 (nats)', rows, size),
      againstSize('top1', 'same next token as float16', rows, size),
    ],
  };
}

function title(cache: string): string {
  const share = /^h2o-(.*)$/.exec(cache)?.[1];
  return share === undefined ? cache : `H2O, ${100 * Number(share)} % kept`;
}

/** Of each share that is kept: the best cache that takes no more. */
function sentences(
  rows: readonly { cache: string; method: string; bits: number; kl: number; top1: number }[],
): string[] {
  return rows
    .filter(({ method }) => method === 'H2O')
    .map((dropped) => {
      const [best] = rows
        .filter(({ method, bits }) => method !== 'H2O' && bits <= dropped.bits)
        .sort((a, b) => a.kl - b.kl);
      const said = `${dropped.cache}: KL ${dropped.kl.toFixed(4)}, ${cellText(dropped.top1, 'percent')} of next tokens the same, in ${dropped.bits.toFixed(2)} bits a value.`;
      if (best === undefined) return `${said} None of the presets is as small.`;
      return `${said} ${best.cache} in ${best.bits.toFixed(2)} bits: KL ${best.kl.toFixed(4)}, ${cellText(best.top1, 'percent')} the same.`;
    });
}
