import { GearError } from '../../errors.js';
import { conducted, type ExperimentProgress } from '../../experiment/conduct.js';
import type { Experiment, NamedCache, Subject } from '../../experiment/experiment.js';
import { subject } from '../../experiment/facts.js';
import { experimentOf, experiments } from '../../experiment/names.js';
import type { Findings, Table } from '../../experiment/report/findings.js';
import { cellText } from '../../experiment/report/format.js';
import { writeReport } from '../../experiment/report/report.js';
import type { Preset } from '../../options.js';
import { printResult } from '../files.js';
import { clearStatus, showStatus } from '../status-line.js';
import { table } from '../table.js';
import { type Command, type Flags, numberFlag, sharedFlags, UsageError } from '../usage.js';
import { presetList, presetListFlag } from './flags.js';
import { modelFile } from './model-flag.js';

const DEFAULT_MAX_TOKENS = 256;
/** How often a log file, as opposed to a terminal, gets a line. */
const LOG_MS = 10_000;

/** `gear-kv experiment`. */
export const experimentCommand: Command = {
  summary: "Repeat one of the paper's experiments on any model, with a report",
  operands: ['name'],
  details: `Experiments:\n\n${Object.values(experiments)
    .map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`)
    .join(
      '\n',
    )}\n\nStopped, it goes on where it was when the same command is given again; with another --limit it does what is new.`,
  flags: {
    model: {
      type: 'string',
      value: 'gguf',
      multiple: true,
      help: 'path or URL of a GGUF file; weights and fine-tuned take several (default: GEARKV_MODEL, else SmolLM2-135M-Instruct, downloaded once)',
    },
    limit: { type: 'string', value: 'n', help: 'only the first n examples of each task' },
    preset: { ...presetListFlag.preset, help: "the presets beside float16 (default: the experiment's own)" },
    data: {
      type: 'string',
      value: 'jsonl',
      multiple: true,
      help: 'examples of your own, {"question", "answer"} a line, in place of the usual ones',
    },
    'max-tokens': { type: 'string', value: 'n', help: `the most tokens of an answer (default: ${DEFAULT_MAX_TOKENS})` },
    context: { type: 'string', value: 'n', help: 'error, system: tokens of the prompt' },
    budget: { type: 'string', value: 'MB', help: 'system: megabytes that caches may take' },
    seed: { type: 'string', value: 'n', help: 'draw the examples by this seed (default: the first of each set)' },
    out: {
      type: 'string',
      value: 'dir',
      help: 'folder of the report and of what is done so far (default: gear-kv-NAME)',
    },
    json: sharedFlags.json,
  },
  async run([name = ''], flags) {
    const experiment = known(name);
    const folder = (flags['out'] as string | undefined) ?? `gear-kv-${name}`;
    const stop = new AbortController();
    // Once more, and the process ends as any other does.
    process.once('SIGINT', () =>
      stop.abort(new GearError('ABORTED', `stopped; the same command goes on with what is in ${folder}`)),
    );
    const subjects = await subjectsOf(experiment, flags, stop.signal);
    const budget = count(flags, 'budget', 1);
    const findings = await shown((onProgress) =>
      conducted({
        experiment,
        subjects,
        caches: cachesOf(experiment, flags),
        limit: count(flags, 'limit', 1) ?? experiment.limit,
        maxTokens: count(flags, 'max-tokens', 1) ?? DEFAULT_MAX_TOKENS,
        seed: count(flags, 'seed', 0),
        contextTokens: count(flags, 'context', 1),
        budgetBytes: budget === undefined ? undefined : budget * 1e6,
        data: (flags['data'] as string[] | undefined) ?? [],
        folder,
        command: commandOf(name, flags),
        signal: stop.signal,
        onProgress,
      }),
    );
    const report = await writeReport(folder, findings, { signal: stop.signal });
    for (const { model } of subjects) model.dispose();
    printResult(
      flags,
      findings,
      `${text(findings)}\nReport: ${report.html}\n        ${report.markdown}\n        ${report.json}\n`,
    );
  },
};

function known(name: string): Experiment {
  try {
    return experimentOf(name);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function subjectsOf(experiment: Experiment, flags: Flags, signal: AbortSignal): Promise<Subject[]> {
  const sources = (flags['model'] as string[] | undefined) ?? [undefined];
  const most = experiment.mostModels ?? 1;
  if (sources.length > most) {
    throw new UsageError(
      `experiment ${experiment.name} takes ${most === 1 ? 'one model' : `up to ${most} models`}; ${sources.length} given`,
    );
  }
  const subjects: Subject[] = [];
  for (const source of sources) subjects.push(await subject(await modelFile(source, signal), signal));
  return subjects;
}

/** Float16 is there in any case. */
function cachesOf(experiment: Experiment, flags: Flags): NamedCache[] {
  const names = presetList(flags) ?? experiment.presets;
  return names.filter((name) => name !== 'float16').map((name) => ({ name, cache: name as Preset }));
}

function count(flags: Flags, flag: string, least: number): number | undefined {
  const value = numberFlag(flags, flag);
  if (value === undefined || (Number.isInteger(value) && value >= least)) return value;
  throw new UsageError(`--${flag} is ${value}; expected a whole number of at least ${least}`);
}

/** The command without what is of this run alone. */
function commandOf(name: string, flags: Flags): string {
  const words = Object.entries(flags).flatMap(([flag, value]) => {
    if (flag === 'out' || flag === 'json' || value === undefined || value === false) return [];
    const values = Array.isArray(value) ? value : [value];
    return values.flatMap((one) => (one === true ? [`--${flag}`] : [`--${flag}`, quoted(fileName(flag, String(one)))]));
  });
  return ['gear-kv', 'experiment', name, ...words].join(' ');
}

/** A file by its name alone: where it lies here is nobody's concern. */
function fileName(flag: string, value: string): string {
  const isFile = flag === 'model' || flag === 'data';
  return isFile && !/^https?:/.test(value) ? (value.split(/[\\/]/).at(-1) ?? value) : value;
}

function quoted(word: string): string {
  return /^[\w./:,=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function shown<Result>(
  work: (listen: (progress: ExperimentProgress) => void) => Promise<Result>,
): Promise<Result> {
  let spoke = 0;
  try {
    return await work(({ done, total, doing, secondsLeft }) => {
      const left = secondsLeft === undefined ? '' : `, ${duration(secondsLeft)} left`;
      const line = `${done} of ${total} done${left}: ${doing}`;
      if (process.stderr.isTTY) showStatus(line);
      else if (performance.now() - spoke > LOG_MS || spoke === 0) {
        process.stderr.write(`${line}\n`);
        spoke = performance.now();
      }
    });
  } finally {
    if (process.stderr.isTTY) clearStatus();
  }
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function text({ title, question, summary, tables, data, remarks }: Findings): string {
  const used = data.map(
    ({ name, licence, source, examples }) => `${name}: ${examples} examples, ${licence}, ${source}`,
  );
  const sections = [
    `${title}\n${question}`,
    summary.join('\n'),
    ...tables.map(tableText),
    used.length > 0 ? `Data: ${used.join('\n      ')}` : '',
    remarks.map((remark) => `Note: ${remark}`).join('\n'),
  ];
  return `${sections.filter((section) => section !== '').join('\n\n')}\n`;
}

function tableText({ title, columns, rows, note, source }: Table): string {
  const heads = columns.map(({ heading, key }) => ({
    heading,
    align: isWords(rows, key) ? ('left' as const) : ('right' as const),
  }));
  const cells = rows.map((row) => columns.map(({ key, format }) => cellText(row[key], format)));
  return [title, source === undefined ? '' : `(figures of ${source})`, table(heads, cells).trimEnd(), note ?? '']
    .filter((line) => line !== '')
    .join('\n');
}

function isWords(rows: Table['rows'], key: string): boolean {
  return rows.some((row) => typeof row[key] === 'string');
}
