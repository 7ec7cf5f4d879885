// Conducts an experiment: opens its journal, runs it, and puts what it found together with what was used.

import { GearError } from '../errors.js';
import { sha256Of } from './data/files.js';
import type { Context, Experiment, Journaled, Settings } from './experiment.js';
import { machine } from './facts.js';
import { Journal } from './journal.js';
import type { DataSource, Findings } from './report/findings.js';

// Put in by the bundler.
declare const GEARKV_VERSION: string;

/** How far an experiment has come. */
export interface ExperimentProgress {
  /** Units done, those of earlier runs included. */
  readonly done: number;
  readonly total: number;
  /** What is being done. */
  readonly doing: string;
  /** Seconds left, by the mean of the units of this run; undefined before the first. */
  readonly secondsLeft: number | undefined;
}

/** An experiment with all that it is asked, and where its journal is. */
export interface Conduct extends Settings {
  readonly experiment: Experiment;
  /** Where the journal is, and the report will be. */
  readonly folder: string;
  /** The command that repeats it, for the report. */
  readonly command: string;
  readonly onProgress?: ((progress: ExperimentProgress) => void) | undefined;
}

/**
 * Runs an experiment, or what is left of it where its folder has a journal of the same one.
 *
 * @throws GearError as {@link Journal.open} and as the experiment; the signal's reason. Whatever was finished stays in the journal.
 */
export async function conducted(given: Conduct): Promise<Findings> {
  const { experiment, folder, command, onProgress, ...settings } = given;
  const { subjects, caches, seed, maxTokens, contextTokens, budgetBytes, data, signal } = settings;
  // The limit is not part of it: the first of many examples are those of few, so that a run can be continued with more.
  const journal = await Journal.open(folder, {
    experiment: experiment.name,
    version: 2,
    models: subjects.map(({ sha256 }) => sha256),
    presets: caches,
    maxTokens,
    seed: seed ?? null,
    contextTokens: contextTokens ?? null,
    budgetBytes: budgetBytes ?? null,
    // What a file is called may change, what it holds may not.
    data: await Promise.all(data.map(hashOfData)),
  });
  const remarks = new Set<string>();
  const sources = new Map<string, DataSource>();
  const watch = new Watch(onProgress);
  const context: Context = {
    ...settings,
    expect: (units) => watch.expect(units),
    unit: async <Result extends Journaled>(key: string, work: () => Promise<Result>): Promise<Result> => {
      signal?.throwIfAborted();
      if (journal.has(key)) {
        watch.skip();
        return journal.result(key) as Result;
      }
      watch.begin(key);
      const since = performance.now();
      const result = await work();
      const seconds = (performance.now() - since) / 1000;
      await journal.add(key, seconds, result);
      watch.end(seconds);
      return result;
    },
    doing: (text) => watch.doing(text),
    remark: (text) => void remarks.add(text),
    used: (source) => void sources.set(`${source.name} ${source.source}`, source),
  };
  try {
    const { summary, tables, plots } = await experiment.run(context);
    if (tables.length === 0) throw new GearError('INTERNAL', `experiment ${experiment.name} found nothing`);
    return {
      experiment: experiment.name,
      title: experiment.title,
      question: experiment.question,
      summary,
      models: subjects.map(({ name, path, bytes, sha256, details }) => ({
        name,
        file: path.split(/[\\/]/).at(-1) ?? path,
        bytes,
        sha256,
        details,
      })),
      data: [...sources.values()],
      command,
      seed: seed ?? null,
      machine: machine(),
      version: GEARKV_VERSION,
      date: new Date().toISOString().slice(0, 10),
      seconds: journal.seconds,
      tables,
      plots,
      remarks: [...remarks],
    };
  } finally {
    await journal.close();
  }
}

async function hashOfData(path: string): Promise<string> {
  return sha256Of(path).catch((cause: Error) => {
    throw new GearError('IO_FAILED', `the data ${path} could not be read: ${cause.message}`, { cause });
  });
}

/** Counts units, and says how long the rest will take. */
class Watch {
  readonly #listen: Conduct['onProgress'];
  #total = 0;
  #done = 0;
  /** Units of this run, and their seconds. */
  #computed = 0;
  #seconds = 0;
  #doing = '';

  constructor(listen: Conduct['onProgress']) {
    this.#listen = listen;
  }

  expect(units: number): void {
    this.#total = units;
  }

  skip(): void {
    this.#done += 1;
  }

  begin(key: string): void {
    this.#doing = key;
    this.#tell();
  }

  doing(text: string): void {
    this.#doing = text;
    this.#tell();
  }

  end(seconds: number): void {
    this.#done += 1;
    this.#computed += 1;
    this.#seconds += seconds;
    this.#tell();
  }

  #tell(): void {
    const total = Math.max(this.#total, this.#done);
    const secondsLeft = this.#computed === 0 ? undefined : (this.#seconds / this.#computed) * (total - this.#done);
    this.#listen?.({ done: this.#done, total, doing: this.#doing, secondsLeft });
  }
}
