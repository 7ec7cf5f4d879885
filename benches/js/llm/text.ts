import { readFileSync } from 'node:fs';

/** Plain English of the repository itself, again and again: what is measured does not depend on what the text says. */
export function longText(characters: number): string {
  const once = ['LICENSE', 'ARCHITECTURE.md', 'README.md', 'CONTRIBUTING.md']
    .map((name) => readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8'))
    .join('\n\n');
  return once.repeat(Math.ceil(characters / once.length)).slice(0, characters);
}

/** The first `tokens` tokens of it, as text. */
export function promptOf(
  tokens: number,
  tokenize: (text: string) => ArrayLike<number>,
  detokenize: (ids: number[]) => string,
): string {
  const ids = Array.from(tokenize(longText(tokens * 8)));
  if (ids.length < tokens) throw new Error(`the text has only ${ids.length} tokens of ${tokens}`);
  return detokenize(ids.slice(0, tokens));
}
