import type { Axis } from './points.js';
import type { PointRow } from './record.js';

/** A measured row with its place on the axis. */
export interface Drawn extends PointRow {
  x: number;
}

/** What an axis shows. */
interface Description {
  title: string;
  x: string;
  /** Where the axis is not linear. */
  logarithmic?: true;
}

export const DESCRIPTIONS: Record<Axis, Description> = {
  tokens: { title: 'Tokens in the cache', x: 'tokens', logarithmic: true },
  headDim: { title: 'Channels of a head', x: 'head_dim (channels)', logarithmic: true },
  rank: { title: 'Rank of the low-rank part', x: 'rank' },
  bits: { title: 'Bits of a code', x: 'bits of a code', logarithmic: true },
  threads: { title: 'Threads', x: 'threads', logarithmic: true },
  presets: { title: 'Presets', x: '' },
};
