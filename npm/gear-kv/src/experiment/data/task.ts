// Tasks: examples with their prompts, wherever they came from.

import type { Message } from '../../llm/settings.js';
import type { AnswerKind } from '../answers.js';
import type { DataSource } from '../report/findings.js';

/** An example as it is asked. */
export interface Example {
  /** Of its task; the same in every run. */
  readonly id: string;
  /** A text to be continued, or a conversation for the model's template. */
  readonly prompt: string | readonly Message[];
  /** The right answer, in the form of {@link finalAnswer}. */
  readonly target: string;
}

/** Examples of one kind. */
export interface Task {
  readonly name: string;
  readonly kind: AnswerKind;
  /** Texts that end an answer. */
  readonly stop: readonly string[];
  readonly examples: readonly Example[];
  readonly source: DataSource;
}

/** A question and its answer with the thoughts that lead to it, as prompts show them. */
export interface Exemplar {
  readonly question: string;
  readonly answer: string;
}
