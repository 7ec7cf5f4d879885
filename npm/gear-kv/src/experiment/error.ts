// How far a compressed cache is from the exact one: layer by layer, and token by token of what follows.

import type { EvalLayerError, EvalWindowRow } from '../llm/evaluation.js';
import { mathProblems } from './data/tasks.js';
import { eachExample, type MaybeSkipped, tokensOf } from './examples.js';
import type { Experiment, Outcome, Subject } from './experiment.js';
import { mean } from './mean.js';
import { reference } from './reference.js';
import type { Column, Plot, Table } from './report/findings.js';
import { cellText } from './report/format.js';
import { examplesOf, taskOptions } from './task-options.js';

/** Steps whose divergences are one point of the plot: single ones are noise. */
const STEPS = 16;

interface Along {
  readonly cache: string;
  readonly bits: number;
  readonly layers: readonly EvalLayerError[];
  readonly positionKl: readonly number[];
}

interface Found extends MaybeSkipped {
  readonly promptTokens: number;
  readonly rows: readonly Along[];
}

/** `error`: of each layer, and while decoding. */
export const error: Experiment = {
  name: 'error',
  title: 'The error of each layer, and how it grows',
  summary: 'the error of keys, values and attention in each layer, and its growth over decode steps',
  question: 'Where does compression lose most, and does what is lost add up while tokens are decoded?',
  presets: ['gear-4', 'gear-2', 'paper-gear-4', 'paper-gear-2', 'kivi-4', 'kivi-2', 'uniform-4'],
  limit: 8,
  async run(context) {
    const tasks = await mathProblems(taskOptions(context));
    context.expect(examplesOf(tasks));
    const { model } = context.subjects[0] as Subject;
    const { caches, signal, contextTokens } = context;
    const found = await eachExample(context, tasks, async (task, example): Promise<Found> => {
      // The end of a prompt is its question.
      const prompt = tokensOf(context, model, example.prompt).slice(-(contextTokens ?? 0));
      const text = await reference(context, model, task, prompt, true);
      if ('skipped' in text) return { promptTokens: prompt.length, rows: [], ...text };
      const { windows = [] } = await model.evaluate(
        { items: [text] },
        {
          presets: caches,
          perWindow: true,
          layerErrors: true,
          onProgress: ({ done, total }) => context.doing(`cache ${done} of ${total}`),
          ...(signal && { signal }),
        },
      );
      return { promptTokens: prompt.length, rows: (windows[0]?.rows ?? []).map(along) };
    });
    return outcome(found);
  },
};

function along({ preset, bitsPerElement, layers = [], positionKl }: EvalWindowRow): Along {
  // Six digits are enough, and the journal stays small.
  const digits = (value: number): number => Number(value.toPrecision(6));
  return { cache: preset, bits: bitsPerElement, layers, positionKl: positionKl.map(digits) };
}

const PARTS = [
  { key: 'key', heading: 'keys' },
  { key: 'value', heading: 'values' },
  { key: 'attention', heading: 'attention' },
] as const;
type Part = (typeof PARTS)[number]['key'];
type LayerRow = { readonly cache: string; readonly layer: number } & Readonly<Record<Part, number>>;

function outcome(found: readonly Found[]): Outcome {
  const names = found[0]?.rows.map(({ cache }) => cache) ?? [];
  const of = (index: number): Along[] => found.map(({ rows }) => rows[index] as Along);
  const layers = names.flatMap((cache, index) => layerRows(cache, of(index)));
  const steps = names.flatMap((cache, index) => stepRows(cache, of(index)));
  const totals = names.map((cache, index) => {
    const mine = layers.filter((row) => row.cache === cache);
    const grown = steps.filter((row) => row.cache === cache);
    const worst = mine.reduce((a, b) => (b.attention > a.attention ? b : a));
    return {
      cache,
      bits: mean(of(index).map(({ bits }) => bits)),
      ...parts((part) => mean(mine.map((row) => row[part]))),
      worst: worst.layer,
      first: grown[0]?.kl ?? null,
      last: grown.at(-1)?.kl ?? null,
    };
  });
  const prompts = found.map(({ promptTokens }) => promptTokens);
  const error = { format: { digits: 4 }, better: 'low' } as const;
  const total: Table = {
    id: 'errors',
    title: 'Errors of the prompt, and divergence of what follows',
    note:
      `${found.length} prompts of ${Math.min(...prompts)} to ${Math.max(...prompts)} tokens (GSM8k), each with the answer that the model gives on float16. Errors: norm of the difference from float16 by the norm of float16, ` +
      'the root of the mean square over prompts, the mean over layers; attention is what each layer’s heads give to the last queries of the prompt (a sixteenth of them, up to 16). ' +
      `KL (nats): the mean of the first and of the last ${STEPS} tokens that were decoded.`,
    columns: [
      { key: 'cache', heading: 'cache' },
      { key: 'bits', heading: 'bits per value', format: { digits: 2 } },
      ...PARTS.map(({ key, heading }): Column => ({ key, heading: `error of ${heading}`, ...error })),
      { key: 'worst', heading: 'worst layer' },
      { key: 'first', heading: `KL, first ${STEPS}`, ...error },
      { key: 'last', heading: `KL, last ${STEPS}`, ...error },
    ],
    rows: totals,
  };
  const each: Table = {
    id: 'layers',
    title: 'Error of attention in each layer',
    columns: [
      { key: 'layer', heading: 'layer' },
      ...names.map((cache): Column => ({ key: cache, heading: cache, format: { digits: 4 } })),
    ],
    rows: layers
      .filter(({ cache }) => cache === names[0])
      .map(({ layer }) => ({
        layer,
        ...Object.fromEntries(
          layers.filter((row) => row.layer === layer).map(({ cache, attention }) => [cache, attention]),
        ),
      })),
  };
  return {
    summary: totals.map(
      ({ cache, bits, key, value, attention, worst, first, last }) =>
        `${cache}, ${bits.toFixed(2)} bits a value: keys are ${cellText(key, 'percent')} off, values ${cellText(value, 'percent')}, attention ${cellText(attention, 'percent')} (most in layer ${worst})` +
        (first === null || last === null
          ? '.'
          : `; KL ${first.toFixed(4)} at the first ${STEPS} tokens, ${last.toFixed(4)} at the last.`),
    ),
    tables: [total, each],
    plots: [
      ...PARTS.map(
        ({ key, heading }): Plot => ({
          id: key,
          title: `Error of ${heading} in each layer`,
          kind: 'line',
          x: { key: 'layer', title: 'layer' },
          y: { key, title: 'relative error', scale: 'log' },
          series: 'cache',
          // Nothing is not on a logarithmic scale.
          rows: layers.filter((row) => row[key] > 0),
        }),
      ),
      {
        id: 'growth',
        title: 'Divergence while decoding',
        kind: 'line',
        x: { key: 'step', title: `tokens decoded (means of ${STEPS})` },
        y: { key: 'kl', title: 'KL from float16 (nats)', scale: 'log' },
        series: 'cache',
        rows: steps.filter(({ kl }) => kl > 0),
      },
    ],
  };
}

function layerRows(cache: string, prompts: readonly Along[]): LayerRow[] {
  const count = prompts[0]?.layers.length ?? 0;
  return Array.from({ length: count }, (_, layer) => ({
    cache,
    layer,
    ...parts((part) => Math.sqrt(mean(prompts.map(({ layers }) => (layers[layer]?.[part] ?? 0) ** 2)))),
  }));
}

/** Whole runs of steps that all prompts have. */
function stepRows(cache: string, prompts: readonly Along[]): { cache: string; step: number; kl: number }[] {
  const steps = Math.min(...prompts.map(({ positionKl }) => positionKl.length));
  return Array.from({ length: Math.floor(steps / STEPS) }, (_, run) => ({
    cache,
    step: (run + 1) * STEPS,
    kl: mean(prompts.flatMap(({ positionKl }) => positionKl.slice(run * STEPS, (run + 1) * STEPS))),
  }));
}

function parts(value: (part: Part) => number): Record<Part, number> {
  return { key: value('key'), value: value('value'), attention: value('attention') };
}
