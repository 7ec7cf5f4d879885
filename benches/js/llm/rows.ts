/** One engine with one kind of cache at one length of context. */
export interface Row {
  engine: 'gear-kv' | 'llama.cpp';
  /** A preset, or llama.cpp's type of K and V. */
  cache: string;
  flashAttention?: boolean;
  /** Tokens of the prompt. */
  context: number;
  prefillTokensPerSecond: number;
  decodeTokensPerSecond: number;
  /** Bytes of the cache at the end; llama.cpp does not say. */
  cacheBytes?: number;
  /** Peak of resident memory, less what it was once the model was loaded. */
  peakBytesOverModel: number;
  /** Seconds of the whole run, by what they went into. */
  split?: { attention: number; compression: number; matmul: number; other: number };
}

/** What one child process is asked to do. */
export interface Task {
  engine: Row['engine'];
  cache: string;
  flashAttention: boolean;
  model: string;
  /** Where node-llama-cpp is installed. */
  peers: string;
  context: number;
  decode: number;
  threads: number;
}

/** Resident memory now, and the most there has been. */
export function resident(): { now: number; peak: number } {
  return { now: process.memoryUsage().rss, peak: process.resourceUsage().maxRSS * 1024 };
}
