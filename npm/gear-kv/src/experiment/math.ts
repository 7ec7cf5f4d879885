// GSM8k behind its examples on many caches: what several experiments have in common.

import { answered } from './answering.js';
import { mathProblems } from './data/tasks.js';
import type { Context, NamedCache, Subject } from './experiment.js';
import { type CacheScore, scores } from './tables.js';
import { examplesOf, taskOptions } from './task-options.js';

/** Scores of caches, float16 first, on one model. */
export async function mathScores(context: Context, caches: readonly NamedCache[]): Promise<CacheScore[]> {
  const tasks = await mathProblems(taskOptions(context));
  context.expect(examplesOf(tasks));
  return scores(await answered(context, context.subjects[0] as Subject, tasks, caches));
}

/** The same on each of several models; units are told apart by the model's number. */
export async function mathScoresOfEach(
  context: Context,
  caches: readonly NamedCache[],
): Promise<{ subject: Subject; rows: CacheScore[] }[]> {
  const tasks = await mathProblems(taskOptions(context));
  context.expect(context.subjects.length * examplesOf(tasks));
  const found: { subject: Subject; rows: CacheScore[] }[] = [];
  for (const [index, subject] of context.subjects.entries()) {
    const examples = await answered(context, subject, tasks, caches, `model ${index + 1}, `);
    found.push({ subject, rows: scores(examples) });
  }
  return found;
}
