import { GearError } from '../../errors.js';
import { readFileBytes } from '../../file.js';
import { GearModel } from '../../llm/model.js';
import type { Preset } from '../../options.js';
import { printResult } from '../files.js';
import { Progress } from '../progress.js';
import { table } from '../table.js';
import { type Command, sharedFlags } from '../usage.js';
import { presetList, presetListFlag } from './flags.js';
import { modelFlag, modelPath } from './model-flag.js';

/** `gear-kv perplexity`. */
export const perplexityCommand: Command = {
  summary: 'Measure how well a model predicts a text on a compressed cache',
  operands: ['text-file'],
  flags: {
    ...modelFlag,
    preset: { ...presetListFlag.preset, help: 'the presets to compare (default: float16,gear-4)' },
    json: sharedFlags.json,
  },
  async run([file = ''], flags) {
    const presets = presetList(flags) ?? ['float16', 'gear-4'];
    const text = decoded(file, await readFileBytes(file));
    const model = await GearModel.load(await modelPath(flags));
    const progress = new Progress('measuring', presets.length);
    const rows: { preset: Preset; perplexity: number; tokens: number }[] = [];
    for (const preset of presets) {
      progress.step(preset);
      rows.push({ preset, ...(await model.perplexity(text, { cache: preset })) });
    }
    progress.end();
    const columns = [{ heading: 'preset', align: 'left' }, { heading: 'perplexity' }, { heading: 'tokens' }] as const;
    const cells = rows.map(({ preset, perplexity, tokens }) => [preset, perplexity.toFixed(3), String(tokens)]);
    printResult(flags, rows, table(columns, cells));
  },
};

function decoded(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new GearError('CORRUPT_DATA', `${file} is not UTF-8 text`, { cause });
  }
}
