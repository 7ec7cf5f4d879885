// Accuracy and divergence at every size.

import type { Experiment } from './experiment.js';
import { mathScores } from './math.js';
import { againstSize, methodOf } from './plots.js';
import { scoreSentence, scoreTable } from './tables.js';

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
    const sized = rows.filter(({ cache, bits, kl }) => cache !== 'float16' && bits !== null && kl !== null);
    return {
      summary: [scoreSentence('GSM8k', rows)],
      tables: [scoreTable('sizes', 'GSM8k at every size', rows)],
      plots: [
        againstSize('kl', 'KL from float16 (nats)', sized),
        againstSize('same', "float16's answer", sized),
        againstSize('accuracy', 'right answers', sized),
      ],
    };
  },
};
