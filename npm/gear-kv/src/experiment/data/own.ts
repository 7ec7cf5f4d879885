// Examples that somebody gives as JSON lines.

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { GearError } from '../../errors.js';
import { type AnswerKind, markedAnswer, targetAnswer } from '../answers.js';
import type { Exemplar } from './task.js';

/** What a file holds. */
export interface OwnExamples {
  readonly name: string;
  readonly kind: AnswerKind;
  readonly examples: readonly Exemplar[];
  /** What was left out, and why. */
  readonly remarks: readonly string[];
}

/** Of bad lines, so many are named one by one. */
const MOST_NAMED = 5;

/** Reads a file of `{"question", "answer"}` lines. Bad lines are left out. @throws GearError `IO_FAILED`, `CORRUPT_DATA` where no line is good. */
export async function ownExamples(path: string): Promise<OwnExamples> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new GearError('IO_FAILED', `the data ${path} could not be read: ${cause.message}`, { cause });
  });
  const name = basename(path);
  const examples: Exemplar[] = [];
  const bad: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (line.trim() === '') continue;
    const found = exemplar(line);
    if (typeof found === 'string') bad.push(`line ${index + 1} of ${name} was left out: ${found}`);
    else examples.push(found);
  }
  if (examples.length === 0) {
    throw new GearError(
      'CORRUPT_DATA',
      `${path} has no line like {"question": "…", "answer": "…"}${bad[0] === undefined ? '' : ` (${bad[0]})`}`,
    );
  }
  const remarks = bad.slice(0, MOST_NAMED);
  if (bad.length > MOST_NAMED) remarks.push(`${bad.length - MOST_NAMED} more lines of ${name} were left out`);
  return { name, kind: kindOf(examples), examples, remarks };
}

function exemplar(line: string): Exemplar | string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return 'it is not JSON';
  }
  const { question, answer } = (value ?? {}) as { question?: unknown; answer?: unknown };
  if (typeof question !== 'string' || question.trim() === '') return 'it has no "question"';
  if (typeof answer !== 'string' && typeof answer !== 'number') return 'it has no "answer"';
  return { question: question.trim(), answer: String(answer).trim() };
}

/** What all answers are. */
function kindOf(examples: readonly Exemplar[]): AnswerKind {
  const last = examples.map(({ answer }) => {
    const said = markedAnswer(answer) ?? /the answer is:?\s*(.*?)\.?\s*$/i.exec(answer)?.[1];
    return (said ?? answer).trim();
  });
  if (last.every((answer) => /^-?\$?[\d,]+(\.\d+)?$/.test(answer))) return 'number';
  return last.every((answer) => /^\(?[A-Z]\)?$/.test(answer) && targetAnswer(answer, 'letter') !== undefined)
    ? 'letter'
    : 'words';
}
