// What an experiment found, as data: `report.json` is this, and the page and the Markdown are drawn from it.

/** A number or a word of a table; null where there is none to give. */
export type Cell = number | string | null;

/** A column of a table. */
export interface Column {
  readonly key: string;
  readonly heading: string;
  /** How numbers are written: a share of one as a percentage, bytes in units, seconds in units, or with so many digits behind the point. */
  readonly format?: 'percent' | 'bytes' | 'seconds' | { readonly digits: number };
  /** What is better, where one is: the best of the column is marked. */
  readonly better?: 'high' | 'low';
}

/** Rows of one kind. */
export interface Table {
  readonly id: string;
  readonly title: string;
  /** What has to be known to read it, in a sentence or two. */
  readonly note?: string;
  readonly columns: readonly Column[];
  readonly rows: readonly Readonly<Record<string, Cell>>[];
  /** Whose figures these are, where they are not ours: a paper's, with its address. */
  readonly source?: string;
}

/** An axis: a column of the plot's rows. */
export interface Axis {
  readonly key: string;
  readonly title: string;
  /** Default: linear for numbers, one place each for words. */
  readonly scale?: 'linear' | 'log' | 'symlog' | 'ordinal';
  readonly format?: Column['format'];
}

/** A picture of rows. */
export interface Plot {
  readonly id: string;
  readonly title: string;
  readonly kind: 'line' | 'points' | 'bars' | 'heat-map';
  readonly x: Axis;
  readonly y: Axis;
  /** Lines, points and bars: the column that tells one series from another. */
  readonly series?: string;
  /** Points: the column whose words stand beside them. */
  readonly label?: string;
  /** A heat map: the column that is its color, and what is written into each field. */
  readonly value?: Axis;
  readonly rows: readonly Readonly<Record<string, Cell>>[];
}

/** Where examples came from. */
export interface DataSource {
  readonly name: string;
  readonly licence: string;
  /** An address, a package with its version, or the file that was given. */
  readonly source: string;
  /** Examples that were used. */
  readonly examples: number;
}

/** What an experiment found, and all that is needed to find it again. */
export interface Findings {
  /** The experiment's name, as on the command line. */
  readonly experiment: string;
  readonly title: string;
  /** What it asks, in a sentence. */
  readonly question: string;
  /** What the figures say, in sentences made from the figures. */
  readonly summary: readonly string[];
  readonly models: readonly {
    readonly name: string;
    readonly file: string;
    readonly bytes: number;
    readonly sha256?: string;
    /** Architecture, layers, heads and the like, in the order to be shown. */
    readonly details: Readonly<Record<string, Cell>>;
  }[];
  readonly data: readonly DataSource[];
  /** The command that repeats it. */
  readonly command: string;
  /** Of the examples that were drawn; null where they were the first of their sets. */
  readonly seed: number | null;
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly simd?: string;
    readonly platform: string;
    readonly node: string;
  };
  readonly version: string;
  /** ISO 8601, the day alone. */
  readonly date: string;
  /** Of computing, over all runs that it took. */
  readonly seconds: number;
  readonly tables: readonly Table[];
  readonly plots: readonly Plot[];
  /** What was skipped or went wrong: bad lines of data, a model without a template, an example that did not fit. */
  readonly remarks: readonly string[];
}
