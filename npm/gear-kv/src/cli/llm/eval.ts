import {
  checkedWindows,
  type EvalCache,
  type EvalPreset,
  type Evaluation,
  type EvalWindows,
} from '../../llm/evaluation.js';
import { GearModel } from '../../llm/model.js';
import { tunedCache } from '../../llm/tuning.js';
import type { Preset } from '../../options.js';
import { printResult, readJson } from '../files.js';
import { Progress } from '../progress.js';
import { table } from '../table.js';
import { type Command, type Flags, numberFlag, sharedFlags, UsageError } from '../usage.js';
import { cacheFlags, layerTuning, presetList, presetListFlag } from './flags.js';
import { modelFlag, modelPath } from './model-flag.js';

/** `gear-kv eval`. */
export const evalCommand: Command = {
  summary: 'Compare presets with a float16 cache: divergence, agreement and perplexity on given texts',
  operands: [],
  flags: {
    windows: {
      type: 'string',
      value: 'file',
      help: 'JSON of { promptTokens, continuationTokens, tokenIds: [[…], …] }',
    },
    preset: {
      ...presetListFlag.preset,
      help: 'the presets, and caches at rest by their size: frozen-3.1, frozen-3.1-queries (default: gear-4)',
    },
    'layer-bits': cacheFlags['layer-bits'],
    limit: { type: 'string', value: 'n', help: 'only the first n windows' },
    ...modelFlag,
    json: sharedFlags.json,
  },
  async run(_, flags) {
    const presets = await tuned((presetList(flags) as EvalPreset[] | undefined) ?? ['gear-4'], flags);
    const windows = await windowsOf(flags);
    const model = await GearModel.load(await modelPath(flags));
    let progress: Progress | undefined;
    const found = await model.evaluate(windows, {
      presets,
      onProgress: ({ done, total }) => {
        progress ??= new Progress('evaluating', total);
        progress.reach(done, 'windows');
      },
    });
    progress?.end();
    printResult(flags, found.rows, report(found, windows));
  },
};

/** The presets; where bits for each layer are given, each that deals out bits also with these. */
async function tuned(presets: readonly EvalPreset[], flags: Flags): Promise<(EvalPreset | EvalCache)[]> {
  const tuning = await layerTuning(flags);
  if (tuning === undefined) return [...presets];
  return presets.flatMap((preset) =>
    /^gear-/.test(preset)
      ? [preset, { name: `${preset} tuned`, cache: tunedCache(preset as Preset, tuning) }]
      : [preset],
  );
}

/** The texts of `--windows`. */
export async function windowsOf(flags: Flags): Promise<EvalWindows> {
  const { windows: file } = flags as { windows?: string };
  if (file === undefined) throw new UsageError('--windows is missing; it names a file of token ids');
  const windows = checkedWindows(await readJson(file));
  const limit = numberFlag(flags, 'limit') ?? windows.tokenIds.length;
  if (!(Number.isInteger(limit) && limit >= 1)) throw new UsageError(`--limit is ${limit}; expected 1 or more`);
  return { ...windows, tokenIds: windows.tokenIds.slice(0, limit) };
}

function report(
  { rows, float16Perplexity }: Evaluation,
  { tokenIds, promptTokens, continuationTokens }: EvalWindows,
): string {
  const columns = [
    { heading: 'preset', align: 'left' },
    { heading: 'bits/element' },
    { heading: 'while decoding' },
    { heading: 'KL' },
    { heading: 'same token' },
    { heading: 'perplexity' },
  ] as const;
  const cells = rows.map((row) => [
    row.preset,
    row.bitsPerElement.toFixed(2),
    row.decodeBitsPerElement?.toFixed(2) ?? '–',
    row.kl.toPrecision(3),
    `${(100 * row.top1).toFixed(1)} %`,
    row.perplexity.toFixed(3),
  ]);
  return (
    `${tokenIds.length} windows of ${promptTokens} + ${continuationTokens} tokens, against a float16 cache (perplexity ${float16Perplexity.toFixed(3)}).\n\n` +
    table(columns, cells)
  );
}
