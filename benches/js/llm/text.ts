import { readFileSync } from 'node:fs';

/** Plain English of the repository itself, again and again: what is measured does not depend on what the text says. */
function longText(characters: number): string {
  const once = ['LICENSE', 'ARCHITECTURE.md', 'README.md', 'CONTRIBUTING.md']
    .map((name) => readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8'))
    .join('\n\n');
  return once.repeat(Math.ceil(characters / once.length)).slice(0, characters);
}

/** So many prompts of so many tokens each, no two the same. */
export function promptsOf(
  prompts: number,
  tokens: number,
  tokenize: (text: string) => ArrayLike<number>,
  detokenize: (ids: number[]) => string,
): string[] {
  // Each begins a little further on in the text.
  const step = 16;
  const ids = Array.from(tokenize(longText((tokens + prompts * step) * 8)));
  if (ids.length < tokens + prompts * step) throw new Error(`the text has only ${ids.length} tokens`);
  return Array.from({ length: prompts }, (_, i) => detokenize(ids.slice(i * step, i * step + tokens)));
}
