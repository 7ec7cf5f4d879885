// Accuracy and divergence at every size.

import type { Experiment } from './experiment.js';
import { mathScores } from './math.js';
import type { Plot } from './report/findings.js';
import { type CacheScore, scoreSentence, scoreTable } from './tables.js';

/** `ratio`: from 8 bits to 2. */
export const ratio: Experiment = {
  name: 'ratio',
  title: 'Accuracy at every size',
  summary: 'accuracy and divergence at every size from 2 to 8 bits a value',
  question: 'How much does each bit that is saved cost?',
  presets: [
    'uniform-8',
    'uniform-4',
    'uniform-2',
    'kivi-4',
    'kivi-2',
    'paper-gear-4',
    'paper-gear-l-4',
    'paper-gear-2',
    'paper-gear-l-2',
    'gear-4',
    'gear-3',
    'gear-2',
  ],
  limit: 30,
  run: async (context) => {
    const rows = (await mathScores(context, context.caches)).map((row) => ({ ...row, method: methodOf(row.cache) }));
    return {
      summary: [scoreSentence('GSM8k', rows)],
      tables: [scoreTable('sizes', 'GSM8k at every size', rows)],
      plots: [against('kl', 'KL from float16 (nats)', rows), against('same', "float16's answer", rows)],
    };
  },
};

/** `gear-4` and `gear-2` are one method at two sizes. */
function methodOf(cache: string): string {
  return cache.replace(/-\d+$/, '');
}

type Row = CacheScore & { readonly method: string };

function against(key: 'kl' | 'same', title: string, rows: readonly Row[]): Plot {
  const shown = rows.filter((row) => row.cache !== 'float16' && row.bits !== null && row[key] !== null);
  return {
    id: key,
    title: `${title} against size`,
    kind: 'points',
    x: { key: 'bits', title: 'bits per value', format: { digits: 1 } },
    y: key === 'kl' ? { key, title, scale: 'log' } : { key, title, format: 'percent' },
    series: 'method',
    label: 'cache',
    // Nothing is not on a logarithmic scale.
    rows: shown.filter((row) => key !== 'kl' || (row.kl ?? 0) > 0).map((row) => ({ ...row })),
  };
}
