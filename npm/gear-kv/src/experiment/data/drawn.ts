// Which questions are asked where there are more than asked for.

import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** Puts things in the order in which they are taken. */
export type Order = <Thing>(things: readonly Thing[]) => readonly Thing[];

/**
 * The order of a seed; without one, things stay as they are. It is drawn anew for each list, so that lists are to be given in the same order each time.
 * The first of a list are the same however many are taken.
 */
export function orderOf(seed: number | undefined): Order {
  if (seed === undefined) return (things) => things;
  const random = xoroshiro128plus(seed);
  return (things) => {
    const left = [...things];
    for (let last = left.length - 1; last > 0; last -= 1) {
      const other = uniformInt(random, 0, last);
      [left[last], left[other]] = [left[other] as (typeof left)[number], left[last] as (typeof left)[number]];
    }
    return left;
  };
}
