// Rows of a suite, measured by benny. A suite is run several times over, so that a disturbance of seconds does not hit one row alone, and the
// fastest sample counts: other work on the machine only ever makes a sample slower.

import benny from 'benny';

/** What one row does, again and again. */
export interface Case {
  name: string;
  run: () => unknown;
  /** What the row keeps in memory or works on, where a rate makes sense. */
  bytes?: number;
}

/** Rows that do the same in different ways. */
export interface Suite {
  name: string;
  title: string;
  /** Rows that the others are compared with. */
  baselines: readonly string[];
  cases: readonly Case[];
  /** Gives back what the rows hold. */
  dispose(): void;
}

export interface Row {
  name: string;
  milliseconds: number;
  medianMilliseconds: number;
  samples: number;
  bytes?: number;
  gigabytesPerSecond?: number;
  /** How many times faster than each baseline. */
  times: Record<string, number>;
}

export interface Measured {
  name: string;
  title: string;
  rows: Row[];
}

/** How long a suite takes: rounds, and seconds of each row in each of them. */
export interface Effort {
  rounds: number;
  seconds: number;
}

export async function measured(suite: Suite, { rounds, seconds }: Effort): Promise<Measured> {
  const samples = new Map<string, number[]>(suite.cases.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const { results } = await benny.suite(
      `${suite.name}, ${round + 1} of ${rounds}`,
      benny.configure({ cases: { maxTime: seconds, minSamples: 3 } }),
      ...suite.cases.map(({ name, run }) => benny.add(name, () => run())),
    );
    for (const { name, details } of results) samples.get(name)?.push(...details.sampleResults);
  }
  const fastest = (name: string): number => Math.min(...(samples.get(name) ?? []));
  return {
    name: suite.name,
    title: suite.title,
    rows: suite.cases.map(({ name, bytes }) => {
      const its = (samples.get(name) ?? []).toSorted((a, b) => a - b);
      return {
        name,
        milliseconds: fastest(name) * 1e3,
        medianMilliseconds: (its[its.length >> 1] ?? Number.NaN) * 1e3,
        samples: its.length,
        ...(bytes !== undefined && { bytes, gigabytesPerSecond: bytes / fastest(name) / 1e9 }),
        times: Object.fromEntries(suite.baselines.map((base) => [base, fastest(base) / fastest(name)])),
      };
    }),
  };
}
