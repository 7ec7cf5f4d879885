// Questions of MMLU from the table that a subject is, in the form that its exemplars have.

import { CsvError, parse } from 'csv-parse/sync';
import { GearError } from '../../errors.js';
import type { Exemplar } from './task.js';

const COLUMNS = ['question', 'choice0', 'choice1', 'choice2', 'choice3', 'answer'] as const;
const LETTERS = ['A', 'B', 'C', 'D'] as const;

type Row = Readonly<Record<(typeof COLUMNS)[number], string>>;

/**
 * Reads a table of questions: `question,choice0,choice1,choice2,choice3,answer`, the answer from 0 to 3.
 *
 * @param name - What errors call it.
 * @throws GearError `CORRUPT_DATA` where a line is none of a question.
 */
export function mmluQuestions(table: string, name: string): Exemplar[] {
  const rows = rowsOf(table, name);
  return rows.map(({ question, answer, ...choices }, index) => {
    const texts = [question, ...Object.values(choices)].map((text) => text.trim());
    const letter = LETTERS[Number.parseInt(answer, 10)];
    if (!/^[0-3]$/.test(answer) || letter === undefined || texts.includes('')) {
      throw new GearError(
        'CORRUPT_DATA',
        `question ${index + 1} of ${name} is not one with four choices and an answer from 0 to 3`,
      );
    }
    const [asked, ...said] = texts;
    const options = said.map((text, at) => `(${LETTERS[at]}) ${text}`).join(' ');
    return { question: `${asked}\n${options}`, answer: `(${letter})` };
  });
}

function rowsOf(table: string, name: string): Row[] {
  try {
    const [head, ...rows] = parse(table, { bom: true });
    if (head?.join() !== COLUMNS.join()) {
      throw new GearError('CORRUPT_DATA', `${name} begins with ${head?.join()}; expected ${COLUMNS.join()}`);
    }
    return rows.map((row) => Object.fromEntries(COLUMNS.map((column, at) => [column, row[at] ?? ''])) as Row);
  } catch (cause) {
    if (!(cause instanceof CsvError)) throw cause;
    throw new GearError('CORRUPT_DATA', `${name} is not a table of questions: ${cause.message}`, { cause });
  }
}
