import type { BackendName } from '../backend/binding.js';
import { backendFor, backendInfo } from '../backend/selection.js';
import { GearError } from '../errors.js';
import { readFileBytes } from '../file.js';
import { type Preset, presets } from '../options.js';
import { type DemoRow, type Exact, exactAttention, fixtureLayers, measure, warmUp } from './demo-measure.js';
import { demoReport } from './demo-report.js';
import { printResult } from './files.js';
import { Progress } from './progress.js';
import { backendFlag, type Command, type Flags, sharedFlags, UsageError } from './usage.js';

/** `gear-kv demo`. */
export const demoCommand: Command = {
  summary: "Compress a real model's cache with every preset, and measure size, error and speed",
  operands: [],
  flags: {
    preset: { type: 'string', value: 'name', multiple: true, help: 'only this one; may be given several times' },
    json: sharedFlags.json,
    backend: { ...sharedFlags.backend, help: 'only this one (default: native and wasm)' },
  },
  async run(_, flags) {
    const chosen = presetFlag(flags);
    const names = loadable(backendFlag(flags));
    const file = await readFileBytes(new URL('./fixtures/kv_smollm2_135m.safetensors', import.meta.url));
    const rows: DemoRow[] = [];
    const progress = new Progress('measuring', chosen.length * names.length);
    for (const name of names) {
      const backend = backendFor(name);
      const layers = fixtureLayers(backend, file);
      const exact: Exact = exactAttention(backend, layers);
      if (chosen[0] !== undefined) await warmUp(backend, chosen[0], layers);
      for (const preset of chosen) {
        progress.step(`${preset}, ${name}`);
        rows.push(await measure(backend, preset, layers, exact));
      }
    }
    progress.end();
    const infos = names.map((name) => backendInfo(name));
    printResult(flags, rows, demoReport(rows, infos));
  },
};

function presetFlag(flags: Flags): readonly Preset[] {
  const given = flags['preset'] as string[] | undefined;
  if (given === undefined) return presets;
  for (const name of given) {
    if (!(presets as readonly string[]).includes(name)) {
      throw new UsageError(`--preset is '${name}'; expected ${presets.join(', ')}`);
    }
  }
  return given as Preset[];
}

/** The backends to measure; without --backend one of the two may be missing. */
function loadable(wanted: BackendName | undefined): BackendName[] {
  if (wanted !== undefined) return [backendFor(wanted).name];
  const failures: GearError[] = [];
  const names = (['native', 'wasm'] as const).filter((name) => {
    try {
      backendFor(name);
      return true;
    } catch (error) {
      if (!(error instanceof GearError)) throw error;
      failures.push(error);
      process.stderr.write(`gear-kv: without the ${name} backend: ${error.message}\n`);
      return false;
    }
  });
  if (names.length === 0) throw new GearError('BACKEND_UNAVAILABLE', 'no backend could be loaded', { cause: failures });
  return names;
}
