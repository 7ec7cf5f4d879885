// What an answer says in the end, found in the usual way: the words behind "the answer is", else the last that fits.

/** What is asked for: a number, the letter of a choice, or words. */
export type AnswerKind = 'number' | 'letter' | 'words';

const NUMBER = /-?\$?\d[\d,]*(?:\.\d+)?(?:\s?\/\s?\d+)?/g;
const LETTER = /\(([A-Z])\)|\b([A-Z])\b(?=[.):,]|\s*$)/g;
const SAID = /the (?:final |correct )?answer is:?/gi;

/** The answer that a text ends in; undefined where there is none. Of a text that was cut off, only what it says itself that the answer is. */
export function finalAnswer(text: string, kind: AnswerKind, isCut = false): string | undefined {
  const mark = [...text.matchAll(SAID)].at(-1);
  const said = mark && text.slice(mark.index + mark[0].length);
  if (kind === 'words') return said === undefined ? undefined : words(said);
  const find = kind === 'number' ? lastNumber : lastLetter;
  if (said !== undefined) {
    const first = firstOf(said.trimStart().split('\n')[0] ?? '', kind);
    if (first !== undefined) return first;
  }
  return isCut ? undefined : find(text);
}

/** An answer as it is given by a data set, in the form that {@link finalAnswer} has. */
export function targetAnswer(text: string, kind: AnswerKind): string | undefined {
  // GSM8k has it behind four marks.
  const marked = /####\s*(.*)\s*$/.exec(text)?.[1] ?? text;
  if (kind === 'words')
    return /the (?:final |correct )?answer is/i.test(marked) ? finalAnswer(marked, kind) : words(marked);
  return finalAnswer(marked, kind);
}

function firstOf(text: string, kind: AnswerKind): string | undefined {
  if (kind === 'number') {
    const found = text.match(NUMBER)?.[0];
    return found === undefined ? undefined : plainNumber(found);
  }
  const [found] = text.matchAll(LETTER);
  return found?.[1] ?? found?.[2];
}

function lastNumber(text: string): string | undefined {
  const found = text.match(NUMBER)?.at(-1);
  return found === undefined ? undefined : plainNumber(found);
}

function lastLetter(text: string): string | undefined {
  const found = [...text.matchAll(LETTER)].at(-1);
  return found?.[1] ?? found?.[2];
}

/** "$1,200.50" and "1200.5" are one number, "3/2" and "1.5" another. */
function plainNumber(text: string): string {
  const [over = '', under = '1'] = text.replace(/[$,\s]/g, '').split('/');
  return String(Number(over) / Number(under));
}

/** The first line, without what is at its end for the sentence's sake. */
function words(text: string): string {
  const [line = ''] = text.trim().split('\n');
  return line.trim().replace(/\.$/, '').trim().toLowerCase();
}
