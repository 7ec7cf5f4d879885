// GEAR and GEAR-L on top of each backbone, beside the bare backbone.

import type { GearOptions } from '../options.js';
import type { Experiment, NamedCache } from './experiment.js';
import { mathScores } from './math.js';
import { scoreTable } from './tables.js';

const BITS = [4, 2] as const;
const BACKBONES = ['uniform', 'kcvt', 'kivi', 'rotated'] as const;
/** As the paper has them: rank 4 for the prompt and 2 for what is streamed, 2 % of outliers. */
const PARTS = {
  bare: { rank: 0, decodeRank: 0, sparsity: 0 },
  'GEAR-L': { rank: 4, decodeRank: 2, sparsity: 0 },
  GEAR: { rank: 4, decodeRank: 2, sparsity: 0.02 },
} as const;

interface Built extends NamedCache {
  readonly backbone: string;
  readonly bits: number;
  readonly parts: keyof typeof PARTS;
}

const CACHES: readonly Built[] = BITS.flatMap((bits) =>
  BACKBONES.flatMap((backbone) =>
    (Object.keys(PARTS) as (keyof typeof PARTS)[]).map((parts): Built => {
      // The bare backbone with nothing of ours: no sinks, range by minimum and maximum, metadata of 16 bits.
      const plain: GearOptions = { preset: bits === 4 ? 'kivi-4' : 'kivi-2', bits, ...PARTS[parts] };
      // Keys are not rotated: behind RoPE they do as well per channel.
      const key: GearOptions = { ...plain, backbone: backbone === 'rotated' ? 'kivi' : backbone };
      const value: GearOptions = { ...plain, backbone };
      return { name: `${bits}-bit ${backbone}, ${parts}`, backbone, bits, parts, cache: { key, value } };
    }),
  ),
);

/** `backbones`: what low-rank and outliers add to each. */
export const backbones: Experiment = {
  name: 'backbones',
  title: 'What GEAR adds to each backbone',
  summary: 'GEAR and GEAR-L on uniform, KCVT, KIVI and rotated, each beside the bare backbone',
  question: 'Does adding a low-rank part and outliers help whatever the backbone is?',
  presets: [],
  limit: 30,
  run: async (context) => {
    const rows = await mathScores(context, CACHES);
    const built = CACHES.flatMap((cache) =>
      rows
        .filter((row) => row.cache === cache.name)
        .map((row) => ({ ...row, backbone: cache.backbone, width: `${cache.bits} bits`, parts: cache.parts })),
    );
    const tables = BITS.map((bits) =>
      scoreTable(`bits-${bits}`, `GSM8k, codes of ${bits} bits`, [
        ...rows.slice(0, 1),
        ...rows.filter(({ cache }) => cache.startsWith(`${bits}-bit`)),
      ]),
    );
    return {
      summary: BITS.map((bits) => sentence(bits, built)),
      tables,
      plots: BITS.map((bits) => ({
        id: `kl-${bits}`,
        title: `KL from float16, codes of ${bits} bits`,
        kind: 'bars' as const,
        x: { key: 'backbone', title: 'backbone' },
        y: { key: 'kl', title: 'KL (nats)' },
        series: 'parts',
        rows: built.filter(({ width }) => width === `${bits} bits`),
      })),
    };
  },
};

function sentence(
  bits: number,
  rows: readonly { backbone: string; parts: string; width: string; kl: number | null }[],
): string {
  const kl = (backbone: string, parts: string): number =>
    rows.find((row) => row.width === `${bits} bits` && row.backbone === backbone && row.parts === parts)?.kl ??
    Number.NaN;
  const gains = BACKBONES.map((backbone) => `${backbone} ${(kl(backbone, 'bare') / kl(backbone, 'GEAR')).toFixed(1)}`);
  return `With ${bits} bits, GEAR divides the divergence of the bare backbone by: ${gains.join(', ')}.`;
}
