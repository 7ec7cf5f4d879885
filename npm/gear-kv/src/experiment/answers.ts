// What an answer says in the end, found in the usual way: the words behind "the answer is", else the last that fits.

/** What is asked for: a number, the letter of a choice, or words. */
export type AnswerKind = 'number' | 'letter' | 'words';

const NUMBER = /-?\$?\d[\d,]*(?:\.\d+)?(?:\s?\/\s?\d+)?/g;
const LETTER = /\(([A-Z])\)|\b([A-Z])\b(?=[.):,]|\s*$)/g;
const SAID = /the (?:final |correct )?answer is:?/gi;

/** The answer that a text ends in; undefined where there is none. Of a text that was cut off, only what it says itself that the answer is. */
export function finalAnswer(text: string, kind: AnswerKind, isCut = false): string | undefined {
  const mark = [...text.matchAll(SAID)].at(-1);
  const said = mark && firstLine(text.slice(mark.index + mark[0].length));
  if (kind === 'words') return said === undefined ? undefined : words(said);
  const first = said === undefined ? undefined : answersIn(said, kind)[0];
  return first ?? (isCut ? undefined : answersIn(text, kind).at(-1));
}

/** An answer as it is given by a data set, in the form that {@link finalAnswer} has. */
export function targetAnswer(text: string, kind: AnswerKind): string | undefined {
  const answer = markedAnswer(text) ?? text;
  return finalAnswer(answer, kind) ?? (kind === 'words' ? words(answer) : undefined);
}

/** What stands behind the four marks of GSM8k. */
export function markedAnswer(text: string): string | undefined {
  return /####\s*(.*)\s*$/.exec(text)?.[1];
}

/** Everything that could be an answer. */
function answersIn(text: string, kind: 'number' | 'letter'): string[] {
  if (kind === 'number') return (text.match(NUMBER) ?? []).map(plainNumber);
  return [...text.matchAll(LETTER)].map(([, inParentheses, alone = '']) => inParentheses ?? alone);
}

/** "$1,200.50" and "1200.5" are one number, "3/2" and "1.5" another. */
function plainNumber(text: string): string {
  const [over = '', under = '1'] = text.replace(/[$,\s]/g, '').split('/');
  return String(Number(over) / Number(under));
}

/** The first line, without what is at its end for the sentence's sake. */
function words(text: string): string {
  return firstLine(text).replace(/\.$/, '').trim().toLowerCase();
}

function firstLine(text: string): string {
  return (text.trim().split('\n')[0] ?? '').trim();
}
