// What the proof does, and what comes out of it.

import type { Preset } from 'gear-kv';

/** One way to keep the prompt's cache. */
export interface Kind {
  readonly name: string;
  readonly preset: Preset;
  /** At rest, in so many bits; made of the cache with `preset`. */
  readonly bitsPerElement?: number;
}

/** What is done. */
export interface Plan {
  readonly prompt: readonly number[];
  /** Tokens of the prompt whose cache is kept; the rest is new when it is used again. */
  readonly cached: number;
  readonly answerTokens: number;
  readonly kinds: readonly Kind[];
  /** How often the whole prompt is computed, and how often a cache is thawed after a first time. The best counts. */
  readonly recomputeRounds: number;
  readonly rounds: number;
}

/** What the process saved that had seen the prompt. */
export interface Frozen {
  readonly name: string;
  readonly tokens: number;
  /** Of the file. */
  readonly bytes: number;
  /** Of its keys and values in float16. */
  readonly float16Bytes: number;
  readonly freezeMs: number;
  readonly saveMs: number;
}

/** What that process measured. */
export interface Seen {
  /** Time to the first token of the answer, the whole prompt being computed. */
  readonly recomputeMs: number;
  readonly answer: readonly number[];
  readonly frozen: readonly Frozen[];
}

/** What the process measured that had only the files. */
export interface Thawed {
  readonly name: string;
  /** Tokens of the prompt that were thawed and not computed. */
  readonly tokens: number;
  readonly answer: readonly number[];
  readonly loadMs: number;
  readonly thawMs: number;
  /** Time to the first token of the answer, loading and thawing included. */
  readonly firstTokenMs: number;
}

export const KINDS: readonly Kind[] = [
  { name: 'uniform-8', preset: 'uniform-8' },
  { name: 'gear-4', preset: 'gear-4' },
  { name: 'gear-3', preset: 'gear-3' },
  { name: 'gear-2', preset: 'gear-2' },
  { name: 'at rest, 4 bits', preset: 'float16', bitsPerElement: 4 },
  { name: 'at rest, 3 bits', preset: 'float16', bitsPerElement: 3 },
];

/** A prompt of {@link Plan.cached} tokens and some more. */
export function planOf(tokens: readonly number[], cached: number, rounds: number): Plan {
  const prompt = tokens.slice(0, cached + 16);
  return { prompt, cached, answerTokens: 32, kinds: KINDS, recomputeRounds: rounds, rounds };
}

/** A file's name for a kind. */
export function fileOf(name: string): string {
  return `${name.replace(/[^a-z0-9]+/g, '-')}.gear`;
}
