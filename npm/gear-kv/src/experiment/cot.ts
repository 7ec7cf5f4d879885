// Chain of thought: the paper's first tables.

import { answered } from './answering.js';
import type { Task } from './data/task.js';
import { chainOfThought, withoutExamples } from './data/tasks.js';
import type { Context, Experiment, Outcome, Subject } from './experiment.js';
import { cacheBars } from './plots.js';
import type { Axis, Table } from './report/findings.js';
import { type CacheScore, scoreSentence, scores, scoreTable } from './tables.js';
import { examplesOf, taskOptions } from './task-options.js';

const PRESETS = ['gear-4', 'gear-3', 'gear-2', 'paper-gear-4', 'paper-gear-2', 'kivi-4', 'kivi-2'];

/** `cot`: GSM8k, MMLU and BigBench Hard behind worked examples. */
export const cot: Experiment = {
  name: 'cot',
  title: 'Chain of thought',
  summary: 'GSM8k (8 examples), MMLU and BigBench Hard (3 examples) with chains of thought',
  question: 'Does a model that thinks step by step behind long prompts come to the same answers on a compressed cache?',
  presets: PRESETS,
  limit: 50,
  run: async (context) => onTasks(context, await chainOfThought(taskOptions(context))),
};

/** `zero-shot`: GSM8k and MMLU as questions alone. */
export const zeroShot: Experiment = {
  name: 'zero-shot',
  title: 'Questions without examples',
  summary: "GSM8k and MMLU as questions alone, in an instruct model's own form",
  question:
    'Does an instruct model come to the same answers on a compressed cache where the prompt is short and the answer long?',
  presets: PRESETS,
  limit: 50,
  run: async (context) => onTasks(context, await withoutExamples(taskOptions(context))),
};

async function onTasks(context: Context, tasks: readonly Task[]): Promise<Outcome> {
  context.expect(examplesOf(tasks));
  const [subject] = context.subjects as [Subject];
  const tables: Table[] = [];
  const summary: string[] = [];
  const all: (CacheScore & { task: string })[] = [];
  const examples = await answered(context, subject, tasks, context.caches);
  for (const { name } of tasks) {
    const rows = scores(examples.filter(({ task }) => task === name));
    if (rows.length === 0) continue;
    tables.push(scoreTable(name, TITLES[name] ?? name, rows));
    summary.push(scoreSentence(TITLES[name] ?? name, rows));
    all.push(...rows.map((row) => ({ ...row, task: TITLES[name] ?? name })));
  }
  const compressed = all.filter(({ cache }) => cache !== 'float16');
  const same: Axis = { key: 'same', title: "float16's answer", format: 'percent' };
  const right: Axis = { key: 'accuracy', title: 'right answers', format: 'percent' };
  return {
    summary,
    tables,
    plots: [
      cacheBars('agreement', "How often it comes to float16's answer", same, 'task', compressed),
      cacheBars('accuracy', 'Right answers', right, 'task', all),
    ],
  };
}

const TITLES: Readonly<Record<string, string>> = { gsm8k: 'GSM8k', mmlu: 'MMLU', bbh: 'BigBench Hard' };
