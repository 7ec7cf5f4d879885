/** An engine with one kind of cache. */
export interface Kind {
  engine: 'gear-kv' | 'llama.cpp';
  /** A preset, or llama.cpp's type of K and V. */
  cache: string;
  /** llama.cpp's. */
  flashAttention: boolean;
}

/**
 * What is asked: how fast one sequence is, how much memory a batch takes at its peak, or how many tokens a second the largest
 * batch gives whose caches fit a budget.
 */
export type Measure = 'speed' | 'memory' | 'budget';

/** What one child process is asked to do. */
export interface Task extends Kind {
  measure: Measure;
  model: string;
  /** Where node-llama-cpp is installed. */
  peers: string;
  /** Sequences at once. */
  batch: number;
  /** Tokens of each prompt. */
  context: number;
  /** Tokens that each sequence generates. */
  decode: number;
  threads: number;
}

/** Seconds by what they went into. */
export interface Split {
  attention: number;
  compression: number;
  matmul: number;
  other: number;
}

export const PARTS = ['attention', 'compression', 'matmul', 'other'] as const;

export const secondsOf = (split: Split): number => PARTS.reduce((sum, part) => sum + split[part], 0);

/** What it found. */
export interface Row extends Kind {
  measure: Measure;
  batch: number;
  /** Tokens of each prompt. */
  context: number;
  prefillTokensPerSecond: number;
  /** Of all sequences together. */
  decodeTokensPerSecond: number;
  /** Bytes of all caches at the end; for llama.cpp those that its types of K and V take, reserved from the beginning. */
  cacheBytes: number;
  /** Bytes of the process once the model was loaded. */
  loadedBytes: number;
  /** The most bytes on top of that. */
  peakBytesOverModel: number;
  /** Seconds of the whole run, by what they went into; our engine's alone. */
  split?: Split;
  /** The same of decoding alone, from the first piece of text on. */
  decodeSplit?: Split;
}

/** `float16`, `gear-4`, `f16 flash` … */
export function labelOf({ cache, flashAttention }: Kind): string {
  return flashAttention ? `${cache} flash` : cache;
}

/** The part of a row that says what was asked. */
export function rowOf({
  measure,
  engine,
  cache,
  flashAttention,
  batch,
  context,
}: Task): Pick<Row, 'measure' | 'engine' | 'cache' | 'flashAttention' | 'batch' | 'context'> {
  return { measure, engine, cache, flashAttention, batch, context };
}
