// The paper's tasks: chain of thought behind a few examples, and questions on their own.

import { basename } from 'node:path';
import { GearError } from '../../errors.js';
import type { DownloadOptions } from '../../llm/download.js';
import { type AnswerKind, targetAnswer } from '../answers.js';
import type { DataSource } from '../report/findings.js';
import { type Order, orderOf } from './drawn.js';
import { EXEMPLARS_SOURCE, exemplars, type Shots } from './exemplars.js';
import { HUB_SOURCES, hubQuestions } from './hub.js';
import { ownExamples } from './own.js';
import type { Example, Exemplar, Task } from './task.js';

/** What tasks are made with. */
export interface TaskOptions extends DownloadOptions {
  /** The most examples of a task. */
  readonly limit: number;
  /** Draws the examples; without it they are the first of each set. */
  readonly seed?: number | undefined;
  /** Files that stand in for the usual data. */
  readonly data: readonly string[];
  readonly remark: (text: string) => void;
}

/** How a task asks. */
interface Manner {
  readonly kind: AnswerKind;
  /** Stands behind `A:` of each question. */
  readonly lead: string;
}

const STEPS = " Let's think step by step.";
/** The next question, which a model that goes on asks itself. */
const NEXT = ['\nQ:', '\n\nQ'] as const;
const MANNERS = {
  gsm8k: { kind: 'number', lead: '' },
  mmlu: { kind: 'letter', lead: STEPS },
  bbh: { kind: 'words', lead: STEPS },
} as const satisfies Record<string, Manner>;

type TaskName = keyof typeof MANNERS;

/** A question of a task, beside the examples that its prompt may show. */
interface Asked {
  readonly id: string;
  readonly shots: Shots;
  readonly question: Exemplar;
}

/** Chain of thought: GSM8k with 8 examples, MMLU with those of each subject, BigBench Hard with 3. */
export function chainOfThought(options: TaskOptions): Promise<Task[]> {
  return tasks(['gsm8k', 'mmlu', 'bbh'], options, true);
}

/** GSM8k and MMLU without examples. */
export function withoutExamples(options: TaskOptions): Promise<Task[]> {
  return tasks(['gsm8k', 'mmlu'], options, false);
}

/** One task of chain of thought, for experiments that look at many caches: GSM8k. */
export function mathProblems(options: TaskOptions): Promise<Task[]> {
  return tasks(['gsm8k'], options, true);
}

async function tasks(names: readonly TaskName[], options: TaskOptions, withExamples: boolean): Promise<Task[]> {
  if (options.data.length > 0) {
    const files = options.data.map((path) => basename(path));
    const twice = files.find((file, index) => files.indexOf(file) !== index);
    if (twice !== undefined) {
      throw new GearError('INVALID_OPTION', `two files of data are called ${twice}; give them different names`);
    }
    return Promise.all(options.data.map((path) => own(path, () => exemplars(options), options, withExamples)));
  }
  const known = await exemplars(options);
  return Promise.all(names.map((name) => usual(name, known, options, withExamples)));
}

async function usual(
  name: TaskName,
  known: ReadonlyMap<string, Shots>,
  options: TaskOptions,
  withExamples: boolean,
): Promise<Task> {
  const manner = MANNERS[name];
  const { asked, source } = await questions(name, known, options);
  return {
    name,
    kind: manner.kind,
    stop: withExamples ? NEXT : [],
    examples: asked.flatMap((one) => example(one, manner, withExamples)),
    source: { name, ...source, examples: asked.length },
  };
}

type Origin = Pick<DataSource, 'licence' | 'source'>;

/** Questions of the task's data set; where that cannot be had, its exemplars, each left out of its own prompt. */
async function questions(
  name: TaskName,
  known: ReadonlyMap<string, Shots>,
  options: TaskOptions,
): Promise<{ asked: Asked[]; source: Origin }> {
  const groups = [...known.values()].filter((shots) => shots.name === name || shots.name.startsWith(`${name}/`));
  if (groups.length === 0) throw new GearError('CORRUPT_DATA', `there are no exemplars of ${name}`);
  try {
    const asked = await dealt(groups, options, (group) => hubQuestions(name, taskOf(group), options));
    return { asked, source: HUB_SOURCES[name] };
  } catch (error) {
    options.signal?.throwIfAborted();
    if (!(error instanceof GearError)) throw error;
    options.remark(
      `${name}: asked the exemplars, each left out of its own prompt, since the data set could not be had (${error.message})`,
    );
  }
  const asked = await dealt(groups, options, async ({ exemplars }) => exemplars);
  // Another time the data set may be there, and its questions are others.
  return { asked: asked.map((one) => ({ ...one, id: `${one.id} of the exemplars` })), source: EXEMPLARS_SOURCE };
}

function taskOf({ name }: Shots): string {
  return name.slice(name.indexOf('/') + 1);
}

/** So many questions, one of each group in turn. */
async function dealt(
  groups: readonly Shots[],
  { limit, seed }: TaskOptions,
  load: (group: Shots) => Promise<readonly Exemplar[]>,
): Promise<Asked[]> {
  const order = orderOf(seed);
  const asked: Asked[] = [];
  const loaded = new Map<Shots, readonly Numbered[]>();
  const turns = order(groups);
  for (let round = 0; asked.length < limit; round += 1) {
    const before = asked.length;
    for (const shots of turns) {
      if (asked.length === limit) break;
      const all = loaded.get(shots) ?? numbered(await load(shots), order);
      loaded.set(shots, all);
      const next = all[round];
      if (next !== undefined) asked.push({ id: `${shots.name}/${next.index}`, shots, question: next.question });
    }
    if (asked.length === before) break;
  }
  return asked;
}

/** A question with its place in its set. */
interface Numbered {
  readonly index: number;
  readonly question: Exemplar;
}

function numbered(questions: readonly Exemplar[], order: Order): readonly Numbered[] {
  return order(questions.map((question, index) => ({ index, question })));
}

function example({ id, shots, question }: Asked, { kind, lead }: Manner, withExamples: boolean): Example[] {
  const target = targetAnswer(question.answer, kind);
  // An exemplar whose thoughts come to no conclusion asks nothing.
  if (target === undefined || target === '') return [];
  if (!withExamples) return [{ id, target, prompt: conversation(question.question, kind) }];
  // Answers of some sets begin with the lead themselves.
  const shown = shots.exemplars
    .filter((one) => one.question !== question.question)
    .map((one) => `Q: ${one.question}\nA:${lead} ${bare(one.answer, lead)}\n\n`);
  const head = shots.description === '' ? '' : `${shots.description}\n\n`;
  return [{ id, target, prompt: `${head}${shown.join('')}Q: ${question.question}\nA:${lead}` }];
}

function bare(answer: string, lead: string): string {
  return lead !== '' && answer.startsWith(lead.trim()) ? answer.slice(lead.trim().length).trimStart() : answer;
}

const ENDINGS: Readonly<Record<AnswerKind, string>> = {
  number: 'Think step by step, then end with "The answer is N." where N is a number.',
  letter: 'Think step by step, then end with "The answer is (X)." where X is the letter of your choice.',
  words: 'Think step by step, then end with "The answer is X."',
};

function conversation(question: string, kind: AnswerKind): Example['prompt'] {
  return [{ role: 'user', content: `${question}\n\n${ENDINGS[kind]}` }];
}

/** Numbers are asked behind the examples of GSM8k; anything else on its own. */
async function own(
  path: string,
  exemplars: () => Promise<ReadonlyMap<string, Shots>>,
  options: TaskOptions,
  withExamples: boolean,
): Promise<Task> {
  const { name, kind, examples: all, remarks } = await ownExamples(path);
  for (const remark of remarks) options.remark(remark);
  const hasShots = withExamples && kind === 'number';
  const none: Shots = { name, description: '', exemplars: [] };
  const shots = hasShots ? ((await exemplars()).get('gsm8k') ?? none) : none;
  const manner = { ...MANNERS.gsm8k, kind };
  const asked = numbered(all, orderOf(options.seed))
    .slice(0, options.limit)
    .map(({ index, question }) => ({ id: `${name}/${index}`, shots, question }));
  return {
    name,
    kind,
    stop: hasShots ? NEXT : [],
    examples: asked.flatMap((one) => example(one, manner, hasShots)),
    source: { name, licence: 'as given', source: name, examples: asked.length },
  };
}
