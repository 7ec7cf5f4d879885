// Caches of prompts, and stores of them, for the tests of PromptCache.

import { MemoryStore, PromptCache, type PromptCacheOptions } from 'gear-kv/store';
import { environment, gear } from './support.js';

/** In Deno `gear-kv/store` is on the wasm build, whatever is under test. */
const backend = environment.runtime === 'deno' ? 'wasm' : environment.backend;
/** Of the caches here. */
export const HEAD_DIM = 8;

/** Keys and values that are a function of token and position, as a model's are; uncompressed, so that they can be compared. */
export function cacheOf(tokens: readonly number[]): gear.GearCache {
  const cache = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: HEAD_DIM, preset: 'float32' });
  cache.append(0, rows(tokens), rows(tokens));
  return cache;
}

/** Of these tokens, from position 0. */
export function rows(tokens: readonly number[]): Float32Array {
  return Float32Array.from({ length: tokens.length * HEAD_DIM }, (_, index) => {
    const position = Math.floor(index / HEAD_DIM);
    return (tokens[position] ?? 0) + position / 64 + (index % HEAD_DIM);
  });
}

/** One on a memory store, unless told otherwise. */
export function promptCache(options: Partial<PromptCacheOptions> = {}): PromptCache {
  return new PromptCache({ store: new MemoryStore(), model: 'm', maxBytes: 1 << 24, backend, ...options });
}

/** Puts the cache of these tokens. */
export async function put(cache: PromptCache, tokens: readonly number[]): Promise<void> {
  using filled = cacheOf(tokens);
  await cache.put(tokens, filled);
}

/** Whole numbers from `from`. */
export const range = (count: number, from = 0) => Array.from({ length: count }, (_, index) => from + index);

/** Times of use that are told apart, however fast the test is. */
export class CountingStore extends MemoryStore {
  #clock = 0;
  readonly #used = new Map<string, number>();
  reads = 0;
  lists = 0;
  /** Contents are handed out when this resolves. */
  opened: Promise<void> = Promise.resolve();

  override async get(name: string) {
    if (name.endsWith('.gear')) {
      this.reads += 1;
      await this.opened;
    }
    return super.get(name);
  }
  override async put(name: string, bytes: AsyncIterable<Uint8Array>, options = {}) {
    await super.put(name, bytes, options);
    this.#used.set(name, ++this.#clock);
  }
  override async touch(name: string) {
    this.#used.set(name, ++this.#clock);
  }
  override async list() {
    this.lists += 1;
    return (await super.list()).map((entry) => ({ ...entry, usedAt: this.#used.get(entry.name) ?? 0 }));
  }
}
