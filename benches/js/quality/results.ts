// What was found: docs/quality.json, from which the tables and the plot are made.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type SectionName, sections } from './configurations.js';

/** Errors on a recorded cache, ‖x̂ − x‖ / ‖x‖. */
export interface Errors {
  readonly key: number;
  readonly value: number;
  readonly attention: number;
}

/** A row as the Rust harness finds it. */
export interface Found {
  readonly name: string;
  readonly bitsPerElement: number;
  readonly decodeBitsPerElement: number | null;
  readonly kl: number;
  readonly top1: number;
  readonly perplexity: number;
  readonly errors: Errors | null;
}

/** The texts, and what the model makes of them on a float16 cache. */
export interface Baseline {
  readonly perplexity: number;
  readonly windows: number;
  readonly promptTokens: number;
  readonly continuationTokens: number;
}

/** What was found of one section. */
export interface SectionResults {
  readonly baseline?: Baseline;
  readonly rows: readonly Found[];
}

/** By section. */
export type Results = Readonly<Record<SectionName, SectionResults>>;

export const nothing: Results = { methods: { rows: [] }, ablation: { rows: [] }, secondModel: { rows: [] } };

/** A file in docs/. */
export const docsFile = (name: string): string => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));

/** What stands in docs/quality.json. */
export function readResults(): Results {
  const path = docsFile('quality.json');
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Results) : nothing;
}

/** The results with `found` in place of older rows of the same names; rows that are no longer in the lists are left out. */
export function merged(results: Results, section: SectionName, baseline: Baseline, found: readonly Found[]): Results {
  const rows = new Map([...results[section].rows, ...found].map((row) => [row.name, rounded(row)]));
  const kept = sections[section].rows.flatMap(({ name }) => rows.get(name) ?? []);
  return { ...results, [section]: { baseline: { ...baseline, perplexity: digits(baseline.perplexity) }, rows: kept } };
}

/** Beyond these digits a row differs from machine to machine. */
const digits = (x: number): number => Number(x.toPrecision(5));

function rounded(row: Found): Found {
  const errors = row.errors && {
    key: digits(row.errors.key),
    value: digits(row.errors.value),
    attention: digits(row.errors.attention),
  };
  return {
    ...row,
    bitsPerElement: digits(row.bitsPerElement),
    decodeBitsPerElement: row.decodeBitsPerElement && digits(row.decodeBitsPerElement),
    kl: digits(row.kl),
    top1: digits(row.top1),
    perplexity: digits(row.perplexity),
    errors,
  };
}

export function writeResults(results: Results): void {
  writeFileSync(docsFile('quality.json'), `${JSON.stringify(results, null, 2)}\n`);
}
