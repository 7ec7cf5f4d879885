// A task on several caches: each example is answered on float16 and on every cache; answers are compared with the right one and with float16's.

import type { GearModel } from '../llm/model.js';
import type { GearSession } from '../llm/session.js';
import type { CacheChoice } from '../llm/settings.js';
import { type AnswerKind, finalAnswer } from './answers.js';
import type { Example, Task } from './data/task.js';
import { eachExample, type MaybeSkipped, tokensOf, tooLong } from './examples.js';
import type { Context, NamedCache, Subject } from './experiment.js';

/** An answer on one cache. */
export interface CacheAnswer {
  readonly cache: string;
  readonly text: string;
  /** Whether it came to an end within the most tokens of an answer. */
  readonly ended: boolean;
  /** What it says in the end. */
  readonly answer: string | null;
  readonly correct: boolean;
  /** Tokens of it. */
  readonly tokens: number;
  /** Whether its answer is float16's; null where that has none. */
  readonly same: boolean | null;
  /** Tokens before it differs from float16's; all of them where it does not. */
  readonly until: number;
  readonly identical: boolean;
  /** Along float16's answer: divergence, agreement on the next token, and bits an element of the prompt. Null for an answer of one token. */
  readonly kl: number | null;
  readonly top1: number | null;
  readonly bits: number | null;
}

/** An answer before it is judged: what the journal keeps. */
type Said = Omit<CacheAnswer, 'ended' | 'answer' | 'correct' | 'same'>;

/** An example on every cache, float16 first. */
export interface AnsweredExample<Answer = CacheAnswer> extends MaybeSkipped {
  readonly id: string;
  readonly task: string;
  readonly target: string;
  readonly promptTokens: number;
  readonly answers: readonly Answer[];
}

/** Asks every example of the tasks, one unit each. Examples that do not fit the model are left out with a remark. */
export async function answered(
  context: Context,
  subject: Subject,
  tasks: readonly Task[],
  caches: readonly NamedCache[],
  prefix = '',
): Promise<AnsweredExample[]> {
  const examples = await eachExample(
    context,
    tasks,
    (task, example) => ask(context, subject.model, task, example, caches),
    prefix,
  );
  const kinds = new Map(tasks.map(({ name, kind }) => [name, kind]));
  return examples.map((one) => judged(one, kinds.get(one.task) as AnswerKind, context.maxTokens));
}

async function ask(
  context: Context,
  model: GearModel,
  task: Task,
  example: Example,
  caches: readonly NamedCache[],
): Promise<AnsweredExample<Said>> {
  const prompt = tokensOf(context, model, example.prompt);
  const common = { id: example.id, task: task.name, target: example.target, promptTokens: prompt.length };
  const skipped = tooLong(context, model, prompt);
  if (skipped !== undefined) return { ...common, answers: [], skipped };
  using exact = model.session({ cache: 'float32' });
  await exact.read(prompt.subarray(0, -1), given(context));
  const answer = async (name: string, cache: CacheChoice): Promise<{ text: string; tokens: readonly number[] }> => {
    context.doing(`${example.id} on ${name}`);
    using session = await prompted(context, model, exact, cache, prompt);
    const generation = session.goOn(prompt.subarray(-1), {
      maxTokens: context.maxTokens,
      stop: task.stop,
      ...given(context),
    });
    const text = await generation.text();
    return { text, tokens: generation.result?.tokens ?? [] };
  };
  const reference = await answer('float16', 'float16');
  const beside = (name: string, { text, tokens }: typeof reference): Said => {
    const until = commonTokens(reference.tokens, tokens);
    return {
      cache: name,
      text,
      tokens: tokens.length,
      until,
      identical: until === tokens.length && until === reference.tokens.length,
      kl: null,
      top1: null,
      bits: null,
    };
  };
  const answers: Said[] = [{ ...beside('float16', reference), kl: 0, top1: 1, bits: 16 }];
  for (const { name, cache } of caches) answers.push(beside(name, await answer(name, cache)));
  context.doing(`${example.id}: divergence along float16's answer`);
  const rows = await diverging(context, model, prompt, reference.tokens, caches);
  return { ...common, answers: answers.map((one) => ({ ...one, ...rows.get(one.cache) })) };
}

/** Judges answers each time anew, so that a journal outlives a better way to do it. */
function judged(example: AnsweredExample<Said>, kind: AnswerKind, maxTokens: number): AnsweredExample {
  const finals = example.answers.map(({ text, tokens }) => finalAnswer(text, kind, tokens >= maxTokens));
  const answers = example.answers.map((said, index): CacheAnswer => {
    const answer = finals[index];
    return {
      ...said,
      ended: said.tokens < maxTokens,
      answer: answer ?? null,
      correct: answer === example.target,
      same: finals[0] === undefined ? null : answer === finals[0],
    };
  });
  return { ...example, answers };
}

function given({ signal }: Context): { signal?: AbortSignal } {
  return signal === undefined ? {} : { signal };
}

/**
 * A session that holds the prompt but for its last token. What does not look at the prompt's queries is made from one exact prefill;
 * the others read the prompt themselves, as they do in use.
 */
async function prompted(
  context: Context,
  model: GearModel,
  exact: GearSession,
  cache: CacheChoice,
  prompt: Uint32Array,
): Promise<GearSession> {
  if (!looksAtQueries(cache)) return exact.recompress({ cache, ...given(context) });
  const session = model.session({ cache });
  await session.read(prompt.subarray(0, -1), given(context));
  return session;
}

/** Whether a cache deals out bits by what queries look for, as `gear-*` do. */
function looksAtQueries(cache: CacheChoice): boolean {
  const halves = typeof cache === 'string' ? [{ preset: cache }] : [cache, cache.key ?? {}, cache.value ?? {}];
  return halves.some(({ preset = '', ...rest }) => /^gear-/.test(preset) || 'meanBits' in rest);
}

function commonTokens(a: readonly number[], b: readonly number[]): number {
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at += 1;
  return at;
}

async function diverging(
  context: Context,
  model: GearModel,
  prompt: Uint32Array,
  answer: readonly number[],
  caches: readonly NamedCache[],
): Promise<Map<string, Pick<CacheAnswer, 'kl' | 'top1' | 'bits'>>> {
  // The last token is only predicted.
  if (answer.length < 2 || caches.length === 0) return new Map();
  const windows = { items: [{ promptTokens: prompt.length, tokenIds: [...prompt, ...answer] }] };
  // Experiments may know more of a cache than its name.
  const presets = caches.map(({ name, cache }) => ({ name, cache }));
  const { rows } = await model.evaluate(windows, { presets, ...given(context) });
  return new Map(rows.map(({ preset, kl, top1, bitsPerElement }) => [preset, { kl, top1, bits: bitsPerElement }]));
}
