// Every example of an experiment's tasks, one unit each, and its prompt as a model takes it.

import { GearError } from '../errors.js';
import type { GearModel } from '../llm/model.js';
import type { Example, Task } from './data/task.js';
import type { Context } from './experiment.js';
import { assertFits } from './memory.js';

/** What is found of an example; or why it was left out, where it was. */
export interface MaybeSkipped {
  readonly skipped?: string;
}

/**
 * Looks at every example, one unit each; what was left out is remarked on.
 *
 * @param prefix - Tells units of several rounds through the same tasks apart.
 * @throws GearError `INVALID_OPTION` where all were left out.
 */
export async function eachExample<Found extends MaybeSkipped>(
  context: Context,
  tasks: readonly Task[],
  find: (task: Task, example: Example) => Promise<Found>,
  prefix = '',
): Promise<Found[]> {
  const all: Found[] = [];
  for (const task of tasks) {
    context.used(task.source);
    for (const example of task.examples) {
      const found = await context.unit(`${prefix}${task.name}: ${example.id}`, () => find(task, example));
      if (typeof found.skipped === 'string') context.remark(`${example.id} was left out: ${found.skipped}`);
      else all.push(found);
    }
  }
  if (all.length === 0)
    throw new GearError('INVALID_OPTION', 'no example fits this model; give shorter ones by --data');
  return all;
}

/**
 * Why a prompt and the longest answer are too much for the model, where they are.
 *
 * @throws GearError `INVALID_OPTION` where they are too much for the memory that is left.
 */
export function tooLong({ maxTokens }: Context, { info }: GearModel, prompt: Uint32Array): string | undefined {
  const { contextLength } = info;
  const most = prompt.length + maxTokens;
  if (most <= contextLength) {
    // Every example begins with an exact prefill.
    assertFits(`a float32 cache of ${most} tokens`, 2 * Number(info['float16BytesPerToken']) * most);
    return undefined;
  }
  return `its ${prompt.length} tokens and ${maxTokens} of answer do not fit the model's ${contextLength}`;
}

/** The prompt as the model takes it; a conversation without a template becomes plain text. */
export function tokensOf(context: Context, model: GearModel, prompt: Example['prompt']): Uint32Array {
  if (typeof prompt === 'string') return model.tokenize(prompt);
  try {
    if (model.info['hasChatTemplate'] !== true) throw new GearError('UNSUPPORTED_MODEL', 'its file holds none');
    // The template writes the mark of the beginning itself, where there is one.
    return model.tokenize(model.renderChat(prompt), { addBos: false });
  } catch (error) {
    if (!(error instanceof GearError)) throw error;
    context.remark(
      `the model has no chat template that can be used (${error.message}): questions were asked as plain text`,
    );
    return model.tokenize(`${prompt.map(({ content }) => content).join('\n\n')}\n\nAnswer:`);
  }
}
