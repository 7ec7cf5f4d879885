// What is measured, in which order.

import type { Kind, Row, Task } from './rows.js';

const ours = ['float16', 'gear-4', 'gear-2'].map(
  (cache): Kind => ({ engine: 'gear-kv', cache, flashAttention: false }),
);
const theirs = (cache: string, flashAttention: boolean): Kind => ({ engine: 'llama.cpp', cache, flashAttention });
// Quantized caches need flash attention there.
const peers = [theirs('f16', false), theirs('f16', true), theirs('q8_0', true), theirs('q4_0', true)];

/** Every cache that is measured, ours first. */
export const CACHES: readonly string[] = [...new Set([...ours, ...peers].map(({ cache }) => cache))];

/** Sizes of a run: everything, or what fits into a few minutes. */
export interface Sizes {
  /** Tokens of the one prompt whose speed is measured. */
  contexts: number[];
  decode: number;
  /** Equal batch and length for peak memory. */
  memory: { batch: number; context: number; decode: number };
  /** The budget is what the caches of so many sequences take as float16; each sequence has this length. */
  budget: { float16Batch: number; context: number; decode: number };
}

export const full: Sizes = {
  // SmolLM2 was made for 8192 tokens; the longest prompt leaves room for what is decoded.
  contexts: [256, 1024, 4096, 8000],
  decode: 128,
  memory: { batch: 8, context: 2048, decode: 64 },
  budget: { float16Batch: 4, context: 1024, decode: 64 },
};
export const quick: Sizes = {
  contexts: [256, 1024],
  decode: 48,
  memory: { batch: 4, context: 1024, decode: 16 },
  budget: { float16Batch: 2, context: 512, decode: 32 },
};

/** What all tasks of a run have in common. */
export type Given = Pick<Task, 'model' | 'peers' | 'threads'>;

/** One sequence, at every length. */
export function speedTasks({ contexts, decode }: Sizes, given: Given): Task[] {
  return contexts.flatMap((context) =>
    [...ours, ...peers].map((kind): Task => ({ ...given, ...kind, measure: 'speed', batch: 1, context, decode })),
  );
}

/** Equal batch and length. */
export function memoryTasks({ memory }: Sizes, given: Given): Task[] {
  return [...ours, ...peers].map((kind): Task => ({ ...given, ...kind, ...memory, measure: 'memory' }));
}

/** Throughput in a fixed budget: one sequence of each kind first, which says how many fit; see {@link largestBatch}. */
export function budgetTasks({ budget }: Sizes, given: Given): Task[] {
  const { context, decode } = budget;
  return [...ours, ...peers].map((kind): Task => ({ ...given, ...kind, measure: 'budget', batch: 1, context, decode }));
}

/** How many sequences as large as `one` fit where `float16Batch` as large as `float16` do. */
export function largestBatch({ budget }: Sizes, one: Row, float16: Row): number {
  // A token more or less, which tokenizers differ by, decides nothing.
  const room = budget.float16Batch + 0.05;
  return Math.max(1, Math.floor((room * float16.cacheBytes) / one.cacheBytes));
}
