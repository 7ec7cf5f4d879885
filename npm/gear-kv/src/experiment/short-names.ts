// Names of models for plots, where there is little room.

/** Between the words of a name; `_` is within them, as in `Q4_K_M`. */
const SEPARATOR = /([-. ]+)/;

/** Names without the words that all of them end and begin with. Each keeps one word at least, and no two become the same. */
export function shortNames(names: readonly string[]): string[] {
  const words = names.map((name) => name.split(SEPARATOR));
  const endings = words.map((name) => name.toReversed());
  const tail = common(endings);
  const heads = words.map((name) => name.slice(0, name.length - tail));
  const head = common(heads);
  return heads.map((name) => name.slice(head).join(''));
}

/** How many of the first words, with what is behind each, are the same in all, but for the last word of the shortest. */
function common(names: readonly (readonly string[])[]): number {
  const [first = []] = names;
  const most = names.reduce((least, { length }) => Math.min(least, length), first.length) - 1;
  let same = 0;
  while (same < most && names.every((name) => name[same] === first[same])) same += 1;
  // Words and what is between them take turns.
  return same - (same % 2);
}
