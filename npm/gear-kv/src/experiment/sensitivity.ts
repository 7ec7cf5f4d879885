// How much outliers, and how high a rank.

import type { Preset } from '../options.js';
import type { Experiment, NamedCache } from './experiment.js';
import { mathScores } from './math.js';
import { type CacheScore, scoreTable } from './tables.js';

const SPARSITIES = [0, 0.005, 0.01, 0.02, 0.05] as const;
const RANKS = [0, 1, 2, 4, 8] as const;
const DEFAULT_PRESET = 'paper-gear-2';

interface Setting extends NamedCache {
  readonly sparsity: number;
  readonly rank: number;
}

function settings(preset: string): Setting[] {
  return SPARSITIES.flatMap((sparsity) =>
    RANKS.map((rank): Setting => {
      const decodeRank = Math.ceil(rank / 2);
      const cache = { preset: preset as Preset, sparsity, rank, decodeRank };
      return { name: `${100 * sparsity} %, rank ${rank}`, sparsity, rank, cache };
    }),
  );
}

/** `sensitivity`: sparsity × rank on one preset. */
export const sensitivity: Experiment = {
  name: 'sensitivity',
  title: 'Sparsity and rank',
  summary: 'outliers of 0 to 5 % × ranks of 0 to 8 on a preset (default: paper-gear-2), as a heat map',
  question: 'How many outliers and how high a rank does it take?',
  presets: [DEFAULT_PRESET],
  limit: 10,
  run: async (context) => {
    const [base = { name: DEFAULT_PRESET }, ...others] = context.caches;
    if (others.length > 0) context.remark(`only the first preset was looked at: ${base.name}`);
    const all = settings(base.name);
    const scored = await mathScores(context, all);
    const rows = all.flatMap(({ name, sparsity, rank }) =>
      scored
        .filter(({ cache }) => cache === name)
        .map((row) => ({ ...row, sparsity: `${100 * sparsity} %`, rank: String(rank) })),
    );
    const map = (value: 'kl' | 'same' | 'bits', title: string) => ({
      id: value,
      title: `${title}, ${base.name}`,
      kind: 'heat-map' as const,
      x: { key: 'rank', title: 'rank', scale: 'ordinal' as const },
      y: { key: 'sparsity', title: 'outliers', scale: 'ordinal' as const },
      value: {
        key: value,
        title,
        ...(value === 'same' ? { format: 'percent' as const } : { format: { digits: value === 'kl' ? 3 : 2 } }),
      },
      rows,
    });
    return {
      summary: [sentence(base.name, rows)],
      tables: [
        scoreTable('settings', `GSM8k, ${base.name} with other outliers and ranks`, [...scored.slice(0, 1), ...rows]),
      ],
      plots: [map('kl', 'KL from float16 (nats)'), map('same', "float16's answer"), map('bits', 'bits per value')],
    };
  },
};

function sentence(preset: string, rows: readonly (CacheScore & { sparsity: string; rank: string })[]): string {
  const at = (sparsity: string, rank: string): number =>
    rows.find((row) => row.sparsity === sparsity && row.rank === rank)?.kl ?? Number.NaN;
  const factor = (from: number, to: number): string => (from / to).toFixed(1);
  return (
    `On ${preset} without outliers and low-rank KL is ${at('0 %', '0').toFixed(4)}; rank 4 alone divides it by ${factor(at('0 %', '0'), at('0 %', '4'))}, ` +
    `2 % of outliers alone by ${factor(at('0 %', '0'), at('2 %', '0'))}, both by ${factor(at('0 %', '0'), at('2 %', '4'))}.`
  );
}
