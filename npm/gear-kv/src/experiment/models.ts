// The same caches on several models: other weights of one model, or a model and what was made of it.

import { GearError } from '../errors.js';
import type { Context, Experiment, Outcome } from './experiment.js';
import { mathScoresOfEach } from './math.js';
import { cacheBars } from './plots.js';
import type { Table } from './report/findings.js';
import { shortNames } from './short-names.js';
import { scoreSentence, scoreTable } from './tables.js';

const PRESETS = ['gear-4', 'gear-2', 'kivi-4', 'kivi-2'];
const MOST_MODELS = 8;

/** `weights`: weights of fewer bits × caches of fewer bits. */
export const weights: Experiment = {
  name: 'weights',
  title: 'Compressed weights and a compressed cache',
  summary: 'the same model in several weights (give --model once for each) × cache presets',
  question: 'Do compressed weights and a compressed cache add up to more than either costs?',
  presets: PRESETS,
  mostModels: MOST_MODELS,
  limit: 20,
  run: (context) => onModels(context, 'weights'),
};

/** `fine-tuned`: a model beside the one it was made from. */
export const fineTuned: Experiment = {
  name: 'fine-tuned',
  title: 'A model and what was made of it',
  summary: 'a second model, such as a fine-tuned one, beside the first (--model twice)',
  question: 'Does a model that was trained further take a compressed cache as its base does?',
  presets: PRESETS,
  mostModels: MOST_MODELS,
  limit: 20,
  run: (context) => onModels(context, 'fine-tuned'),
};

async function onModels(context: Context, name: string): Promise<Outcome> {
  if (context.subjects.length < 2) {
    throw new GearError(
      'INVALID_OPTION',
      `experiment ${name} compares models, and one was given; give --model several times`,
    );
  }
  const found = await mathScoresOfEach(context, context.caches);
  const names = distinct(
    found.map(({ subject }) => subject.name),
    found.map(({ subject }) => subject.path.split(/[\\/]/).at(-1) ?? ''),
  );
  const tables: Table[] = found.map(({ rows }, index) =>
    scoreTable(`model-${index + 1}`, `GSM8k, ${names[index]}`, rows),
  );
  const short = shortNames(names);
  const all = found.flatMap(({ rows }, index) => rows.map((row) => ({ ...row, model: short[index] ?? '' })));
  return {
    summary: found.map(({ rows }, index) => scoreSentence(names[index] ?? '', rows)),
    tables,
    plots: [
      cacheBars(
        'kl',
        'KL from the same weights on a float16 cache',
        { key: 'kl', title: 'KL (nats)' },
        'model',
        all.filter(({ cache }) => cache !== 'float16'),
      ),
      cacheBars(
        'accuracy',
        'Right answers',
        { key: 'accuracy', title: 'right answers', format: 'percent' },
        'model',
        all,
      ),
    ],
  };
}

/** Models by their names; by their files where names are the same. */
function distinct(names: readonly string[], files: readonly string[]): string[] {
  return names.map((name, index) => (names.indexOf(name) === names.lastIndexOf(name) ? name : (files[index] ?? name)));
}
