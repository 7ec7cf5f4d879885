// What an experiment is, and what it is given.

import type { GearModel } from '../llm/model.js';
import type { CacheChoice } from '../llm/settings.js';
import type { Cell, DataSource, Plot, Table } from './report/findings.js';

/** A cache beside float16, and what its rows are called. */
export interface NamedCache {
  readonly name: string;
  readonly cache: CacheChoice;
}

/** A model under experiment. */
export interface Subject {
  /** As its file says, or the file's name. */
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
  readonly model: GearModel;
  readonly details: Readonly<Record<string, Cell>>;
}

/** A unit's result has to survive JSON. */
export type Journaled = object | string | number | boolean | null;

/** What is asked of an experiment. */
export interface Settings {
  /** At least one; several where the experiment compares models. */
  readonly subjects: readonly Subject[];
  /** The presets that were asked for, or the experiment's own. None of them is float16, which is always there. */
  readonly caches: readonly NamedCache[];
  /** The most examples of each task. */
  readonly limit: number;
  /** Draws the examples; without it they are the first of each set. */
  readonly seed?: number | undefined;
  /** The most tokens of an answer. */
  readonly maxTokens: number;
  /** Tokens of a prompt that is no question, where an experiment needs one of a length. */
  readonly contextTokens?: number | undefined;
  /** Bytes that caches may take, where an experiment needs to know. */
  readonly budgetBytes?: number | undefined;
  /** Files of examples that stand in for the usual ones. */
  readonly data: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/** What an experiment works with. */
export interface Context extends Settings {
  /** Says how many units there will be, before the first; may be called again when more is known. */
  expect(units: number): void;
  /** Does a piece of work that is not done again when the experiment is resumed. Keys are an experiment's own. */
  unit<Result extends Journaled>(key: string, work: () => Promise<Result>): Promise<Result>;
  /** Says what is being done within a unit. */
  doing(text: string): void;
  /** Something that the report has to say. */
  remark(text: string): void;
  /** Data that was used. */
  used(source: DataSource): void;
}

/** What an experiment alone knows of its findings. */
export interface Outcome {
  readonly summary: readonly string[];
  readonly tables: readonly Table[];
  readonly plots: readonly Plot[];
}

/** One of the paper's experiments. */
export interface Experiment {
  readonly name: string;
  readonly title: string;
  /** A line of `--help`. */
  readonly summary: string;
  /** What it asks, in a sentence. */
  readonly question: string;
  /** The presets that it takes where none are named; empty where it has caches of its own alone. */
  readonly presets: readonly string[];
  /** The most models that it takes. Default 1. */
  readonly mostModels?: number;
  /** Examples a task where no limit is given. */
  readonly limit: number;
  run(context: Context): Promise<Outcome>;
}
