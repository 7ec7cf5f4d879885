import { GearModel } from '../../llm/model.js';
import type { LayerTuning, TuneProgress } from '../../llm/tuning.js';
import { printResult, refuseOverwrite, writeOutput } from '../files.js';
import { Progress } from '../progress.js';
import { table } from '../table.js';
import { type Command, sharedFlags } from '../usage.js';
import { windowsOf } from './eval.js';
import { cacheChoice, cacheFlags } from './flags.js';
import { modelFlag, modelPath } from './model-flag.js';

const { 'layer-bits': _, ...baseFlags } = cacheFlags;

/** `gear-kv tune`. */
export const tuneCommand: Command = {
  summary: 'Find how many bits each layer of a model should have, for --layer-bits of the other commands',
  operands: [],
  flags: {
    ...modelFlag,
    ...baseFlags,
    windows: {
      type: 'string',
      value: 'file',
      help: 'texts, as eval takes them (default: what the model writes itself)',
    },
    out: { type: 'string', value: 'file', help: 'write what was found here, as JSON' },
    force: sharedFlags.force,
    json: sharedFlags.json,
  },
  async run(_, flags) {
    const { out } = flags as { out?: string };
    if (out !== undefined) await refuseOverwrite(out, flags);
    const windows = flags['windows'] === undefined ? undefined : await windowsOf(flags);
    const cache = await cacheChoice(flags);
    const model = await GearModel.load(await modelPath(flags));
    const found = await model.tuneLayers({ cache, ...(windows && { windows }), onProgress: bars() });
    model.dispose();
    if (out !== undefined)
      await writeOutput(out, new TextEncoder().encode(`${JSON.stringify(found, null, 2)}\n`), flags);
    printResult(flags, found, report(found, out));
  },
};

/** A bar for each stage. */
function bars(): (progress: TuneProgress) => void {
  const names = { writing: 'writing texts to try it on', trying: 'trying every half of every layer' };
  const bars = new Map<TuneProgress['stage'], Progress>();
  return ({ stage, done, total }) => {
    const bar = bars.get(stage) ?? new Progress(names[stage], total);
    bars.set(stage, bar);
    bar.reach(done, stage === 'writing' ? 'tokens' : 'windows');
    if (done === total) bar.end();
  };
}

function report({ key, value }: LayerTuning, out: string | undefined): string {
  const columns = [
    { heading: 'layer' },
    { heading: 'K bits' },
    { heading: 'V bits' },
    { heading: 'KL of K' },
    { heading: 'KL of V' },
  ] as const;
  const signed = (bits = 0): string => (bits > 0 ? '+' : '') + bits.toFixed(2);
  const rows = key.layerBits.map((bits, layer) => [
    String(layer),
    signed(bits),
    signed(value.layerBits[layer]),
    (key.kl[layer] ?? 0).toPrecision(2),
    (value.kl[layer] ?? 0).toPrecision(2),
  ]);
  const use = out === undefined ? 'Write it to a file with --out FILE' : `Use it with --layer-bits ${out}`;
  return `Bits of a code more or less than the preset has; KL where that half of that layer alone is compressed.\n\n${table(columns, rows)}\n${use}.\n`;
}
