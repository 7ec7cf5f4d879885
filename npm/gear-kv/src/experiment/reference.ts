// Float16's own answers as texts that every cache is held against, token by token.

import type { EvalText } from '../llm/evaluation.js';
import type { GearModel } from '../llm/model.js';
import type { Task } from './data/task.js';
import { tooLong } from './examples.js';
import type { Context } from './experiment.js';

/** A text, or why there is none. */
export type Reference = EvalText | { readonly skipped: string };

/**
 * The example's prompt and what the model answers on a float16 cache, greedily. With `whole`, texts that end an answer do not end it.
 */
export async function reference(
  context: Context,
  model: GearModel,
  task: Task,
  prompt: Uint32Array,
  whole = false,
): Promise<Reference> {
  const { signal, maxTokens } = context;
  const skipped = tooLong(context, model, prompt);
  if (skipped !== undefined) return { skipped };
  using session = model.session({ cache: 'float16' });
  const generation = session.goOn(prompt, {
    maxTokens,
    ...(whole ? {} : { stop: task.stop }),
    ...(signal && { signal }),
  });
  await generation.text();
  const tokens = generation.result?.tokens ?? [];
  if (tokens.length < 2) return { skipped: 'its answer is a single token, which comes from the prompt alone' };
  return { promptTokens: prompt.length, tokenIds: [...prompt, ...tokens] };
}
