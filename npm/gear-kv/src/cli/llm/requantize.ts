import { requantizeModel, type WeightType } from '../../llm/requantize.js';
import { weightTypesText } from '../../llm/weight-types.js';
import { printResult, refuseOverwrite } from '../files.js';
import { Progress } from '../progress.js';
import { type Command, sharedFlags, UsageError } from '../usage.js';
import { modelFlag, modelPath } from './model-flag.js';

/** `gear-kv requantize`. */
export const requantizeCommand: Command = {
  summary: 'Write a model with weights of another type; more bits bring nothing back that fewer lost',
  operands: ['out-file'],
  flags: {
    ...modelFlag,
    weights: { type: 'string', value: 'type', help: 'F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K_M or Q6_K' },
    force: sharedFlags.force,
    json: sharedFlags.json,
  },
  async run([out = ''], flags) {
    const weights = flags['weights'] as WeightType | undefined;
    if (weights === undefined) throw new UsageError('--weights is missing; it names a type, such as Q8_0');
    await refuseOverwrite(out, flags);
    const from = await modelPath(flags);
    let progress: Progress | undefined;
    const written = await requantizeModel(from, out, {
      weights,
      onProgress: ({ done, total }) => {
        progress ??= new Progress('writing', total);
        progress.reach(done, 'tensors');
      },
    });
    progress?.end();
    printResult(
      flags,
      written,
      `${from} (${weightTypesText(written.from, 1)})\n→ ${out} (${weightTypesText(written.to, 1)}), ${(written.fileBytes / 1e6).toFixed(1)} MB\n`,
    );
  },
};
