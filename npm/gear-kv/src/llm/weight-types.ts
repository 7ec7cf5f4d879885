/** Types of weights by their share of all weights, the largest first; those of at most `least` are left out. */
export function weightTypesText(types: Readonly<Record<string, number>>, digits: number, least = -1): string {
  const all = Object.values(types).reduce((sum, count) => sum + count, 0);
  return Object.entries(types)
    .filter(([, count]) => count / all > least)
    .sort(([, a], [, b]) => b - a)
    .map(([type, count]) => `${type} ${((100 * count) / all).toFixed(digits)} %`)
    .join(', ');
}
