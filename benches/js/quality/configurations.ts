// What the quality harness measures, as data: a row more in a list here is a row more in docs/quality.md.

import { readFileSync } from 'node:fs';
import type { LayerTuning } from 'gear-kv/llm';

/** Fields of the library's options. A field that a build does not know is an error of the measurement. */
export type Options = Readonly<Record<string, string | number | boolean | readonly number[]>>;

/** One row. */
export interface Configuration {
  /** What `--method` and docs/quality.json call it. */
  readonly name: string;
  readonly label: string;
  /** The line of the plot that it is on. */
  readonly series?: string;
  /** GEAR's options. */
  readonly key?: Options;
  readonly value?: Options;
  /** A method of the Rust harness (benches/quality), in place of options. */
  readonly method?: string;
  /** Whether the prompt's queries are at hand when it is compressed, as in the engine (default). */
  readonly queries?: boolean;
}

/** Rows that belong together. */
export interface Group {
  readonly title: string;
  readonly text: string;
  readonly rows: readonly Configuration[];
}

const gear = (name: string, series: string, options: Options = { preset: name }, label = name): Configuration => ({
  name,
  label,
  series,
  key: options,
  value: options,
});
const other = (name: string, series: string, label: string): Configuration => ({ name, label, series, method: name });

/** What `gear-kv tune` found for a model (benches/quality/layer-bits). */
function layerBits(file: string): LayerTuning {
  const url = new URL(`../../quality/layer-bits/${file}.json`, import.meta.url);
  return JSON.parse(readFileSync(url, 'utf8')) as LayerTuning;
}

/** The presets with bits for each layer of a model. */
function tuned(file: string): Configuration[] {
  const { key, value } = layerBits(file);
  return ['gear-4', 'gear-3', 'gear-2'].map((preset) => ({
    name: `${preset}-tuned`,
    label: `${preset}, tuned`,
    series: 'gear-*, tuned',
    key: { preset, layerBits: key.layerBits },
    value: { preset, layerBits: value.layerBits },
  }));
}

/** Every method at every size. The first series is drawn in front of the others. */
export const methods: readonly Configuration[] = [
  ...['gear-4', 'gear-3', 'gear-2'].map((name) => gear(name, 'gear-*')),
  ...['gear-4', 'gear-3', 'gear-2'].map((preset) => ({
    ...gear(`${preset}-blind`, 'gear-*, no queries', { preset }, `${preset}, without queries`),
    queries: false,
  })),
  ...tuned('smollm2-135m-instruct'),
  ...['gear-l-4', 'gear-l-3', 'gear-l-2'].map((name) => gear(name, 'gear-l-*')),
  other('frozen-3.1', 'frozen', 'frozen, 3.1 bits'),
  other('frozen-2.45', 'frozen', 'frozen, 2.45 bits'),
  other('frozen-3.1-queries', 'frozen, with queries', 'frozen with queries, 3.1 bits'),
  other('frozen-2.45-queries', 'frozen, with queries', 'frozen with queries, 2.45 bits'),
  gear('paper-gear-4', 'GEAR (paper)'),
  gear('paper-gear-2', 'GEAR (paper)'),
  gear('paper-gear-l-4', 'GEAR-L (paper)'),
  gear('paper-gear-l-2', 'GEAR-L (paper)'),
  gear('kivi-4', 'KIVI'),
  gear('kivi-3', 'KIVI', { preset: 'kivi-4', bits: 3 }),
  gear('kivi-2-g32', 'KIVI', { preset: 'kivi-2', groupSize: 32 }, 'kivi-2, groups of 32'),
  gear('kivi-2', 'KIVI'),
  gear('kcvt-4', 'KCVT'),
  gear('kcvt-2', 'KCVT'),
  gear('uniform-8', 'uniform'),
  gear('uniform-4', 'uniform'),
  gear('uniform-2', 'uniform'),
  other('q8_0', 'llama.cpp', 'q8_0'),
  other('q5_0', 'llama.cpp', 'q5_0'),
  other('q4_0', 'llama.cpp', 'q4_0'),
  other('int8-g64', 'int8', 'int8, groups of 64'),
  other('turboquant-4', 'TurboQuant', 'TurboQuant-mse 4'),
  other('turboquant-3', 'TurboQuant', 'TurboQuant-mse 3'),
  other('turboquant-2', 'TurboQuant', 'TurboQuant-mse 2'),
  other('h2o-50', 'H2O', 'H2O, 50 % of the tokens'),
  other('h2o-25', 'H2O', 'H2O, 25 % of the tokens'),
];

/** Options on top of others: of keys and values alike, then of each. */
interface Change {
  readonly both?: Options;
  readonly key?: Options;
  readonly value?: Options;
  readonly queries?: boolean;
}

/** A named improvement. */
type Improvement = readonly [label: string, change: Change];

interface Start {
  readonly name: string;
  readonly label: string;
  readonly key: Options;
  readonly value: Options;
  readonly queries?: boolean;
}

type Parts = Pick<Start, 'key' | 'value' | 'queries'>;

const changed = ({ key, value, queries }: Parts, change: Change): Parts => ({
  key: { ...key, ...change.both, ...change.key },
  value: { ...value, ...change.both, ...change.value },
  queries: change.queries ?? queries ?? true,
});
const slug = (label: string): string => label.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');

/** The start, and each improvement on it alone. */
function alone(start: Start, improvements: readonly Improvement[]): Configuration[] {
  const rows = improvements.map(([label, change]) => ({
    name: `${start.name}+${slug(label)}`,
    label: `+ ${label}`,
    ...changed(start, change),
  }));
  return [start, ...rows];
}

/** The start, and each improvement on top of those before it. */
function addedUp(start: Start, improvements: readonly Improvement[]): Configuration[] {
  let sum: Parts = start;
  const rows = improvements.map(([label, change]) => {
    sum = changed(sum, change);
    return { name: `sum+${slug(label)}`, label: `+ ${label}`, ...sum };
  });
  return [start, ...rows];
}

const start = (name: string): Start => ({ name, label: name, key: { preset: name }, value: { preset: name } });
const sinks: Improvement = ['4 sinks', { both: { sinks: 4 } }];
const mseRange: Improvement = ['MSE range', { both: { range: 'mse' } }];
const smallScales: Improvement = ['8-bit scales', { both: { scaleBits: 8 } }];
const rotatedValues: Improvement = ['V rotated', { value: { backbone: 'rotated' } }];
const keyBit: Improvement = ['K at 3 bits', { key: { bits: 3 } }];

/** What each improvement of `gear-*` gives. */
export const ablation: readonly Group[] = [
  {
    title: 'Each improvement alone',
    text: 'On top of `kivi-2`: K in groups of 64 tokens of a channel, V in groups of 64 channels of a token, 2 bits, float16 scales and zeros. An MSE range belongs to sinks: without them it clips the tokens that take most of the attention.',
    rows: alone(start('kivi-2'), [
      sinks,
      mseRange,
      ['sinks and MSE range', { both: { sinks: 4, range: 'mse' } }],
      smallScales,
      rotatedValues,
      ['K and V rotated', { both: { backbone: 'rotated' } }],
      keyBit,
      ['V at 3 bits', { value: { bits: 3 } }],
      ['rank 4', { both: { rank: 4, decodeRank: 2 } }],
      ['rank 4 by need', { both: { rank: 4, decodeRank: 2, rankByNeed: true } }],
      ['rank 2', { both: { rank: 2, decodeRank: 0 } }],
      ['rank 2 in 4-bit factors', { both: { rank: 2, decodeRank: 0, factorBits: 4 } }],
      ['rank 2 by need in 4-bit factors', { both: { rank: 2, decodeRank: 0, factorBits: 4, rankByNeed: true } }],
      ['rank 8 in 4-bit factors', { both: { rank: 8, decodeRank: 0, factorBits: 4 } }],
      ['1 % outliers', { both: { sparsity: 0.01 } }],
      ['2 % outliers', { both: { sparsity: 0.02 } }],
      ['K bits by need', { key: { meanBits: 2 } }],
      ['K bits by need, without queries', { key: { meanBits: 2 }, queries: false }],
      ['V rotated, bits by need', { value: { backbone: 'rotated', meanBits: 2 } }],
    ]),
  },
  {
    title: 'Added up',
    text: 'From `kivi-2` on, each on top of those above it.',
    rows: addedUp(start('kivi-2'), [
      sinks,
      rotatedValues,
      mseRange,
      smallScales,
      keyBit,
      ['rank 2 in float16 factors', { both: { rank: 2, decodeRank: 0, powerIterations: 6 } }],
      ['4-bit factors', { both: { factorBits: 4 } }],
      ['K bits by need, no low-rank, without queries', { both: { rank: 0 }, key: { meanBits: 3 }, queries: false }],
      ['with queries', { queries: true }],
      ['V bits by need', { value: { meanBits: 2 } }],
      ['K 2.75 bits, V 2.4 (gear-2)', { key: { meanBits: 2.75 }, value: { meanBits: 2.4 } }],
    ]),
  },
  {
    title: 'One left out',
    text: '`gear-2` without one of its parts: what the others do not make up for.',
    rows: alone(start('gear-2'), [
      ['no sinks', { both: { sinks: 0 } }],
      ['min/max range', { both: { range: 'minmax' } }],
      ['float16 scales', { both: { scaleBits: 16 } }],
      ['V not rotated, at 2 bits', { value: { backbone: 'kivi' } }],
      ['without queries', { queries: false }],
      ['K at 3 bits alike', { key: { bits: 3 } }],
      ['V at 2 bits alike', { value: { bits: 2 } }],
      ['rank 2 in 4-bit factors added', { both: { rank: 2, decodeRank: 0 } }],
      ['rank 2 by need in 4-bit factors added', { both: { rank: 2, decodeRank: 0, rankByNeed: true } }],
    ]).map((row) => ({ ...row, label: row.label.replace(/^\+ /, '') })),
  },
];

const secondModel = [
  'gear-4',
  'gear-3',
  'gear-2',
  'gear-4-blind',
  'gear-3-blind',
  'gear-2-blind',
  'paper-gear-4',
  'kivi-4',
  'kivi-2',
  'q4_0',
  'turboquant-4',
  'turboquant-3',
  'turboquant-2',
];

/** Rows that are measured on the same model and texts. */
export interface Section {
  readonly model: 'SmolLM2-135M' | 'Gemma 3 270M';
  /** Which of the texts; all where this is left out. */
  readonly texts?: readonly number[];
  readonly rows: readonly Configuration[];
}

/** A text of each kind: a book, an address, two prompts with examples. */
const ONE_OF_EACH = [0, 3, 6, 7];

const unique = (rows: readonly Configuration[]): Configuration[] =>
  [...new Map(rows.toReversed().map((row) => [row.name, row])).values()].toReversed();

/** All that is measured. */
export const sections = {
  methods: { model: 'SmolLM2-135M', rows: methods },
  ablation: { model: 'SmolLM2-135M', texts: ONE_OF_EACH, rows: unique(ablation.flatMap(({ rows }) => rows)) },
  secondModel: {
    model: 'Gemma 3 270M',
    texts: ONE_OF_EACH,
    rows: [...methods.filter(({ name }) => secondModel.includes(name)), ...tuned('gemma-3-270m')],
  },
} as const satisfies Record<string, Section>;

export type SectionName = keyof typeof sections;
