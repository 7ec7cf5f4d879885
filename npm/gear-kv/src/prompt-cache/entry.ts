import type { About } from '../about.js';
import { describe, GearError } from '../errors.js';
import type { FrozenCache, GearCache } from '../public.js';
import type { StoreCallOptions } from '../store/store.js';

/** A cache, and what is to be saved beside it: a `FrozenPrefix` of `gear-kv/transformers`, too. */
export interface PromptEntry<Cache = GearCache | FrozenCache> {
  /** Of one sequence. One at rest takes less room and longer to be found: `get` thaws it. */
  readonly cache: Cache;
  /** Metadata and arrays. Its model and token ids do not count: those of the `PromptCache` and of the call do. */
  readonly about?: About;
}

/** What `PromptCache.get` found. */
export interface PromptHit extends PromptEntry<GearCache> {
  /** Keys and values of the tokens that the prompt begins with; the caller's to extend and to dispose of. */
  readonly cache: GearCache;
  /** How many tokens those are. */
  readonly tokens: number;
  /** What was put beside the cache: of all tokens that were put, also where the cache was cut. */
  readonly about: Readonly<About>;
}

/** Options of `PromptCache.get`. */
export interface PromptGetOptions extends StoreCallOptions {
  /**
   * True: the cache comes with all tokens that were put, and `tokens` still says how many of them the prompt begins with. For who
   * cuts it himself, together with what was put beside it. Default: false.
   */
  whole?: boolean;
}

/** What `PromptCache.through` gives. */
export interface PromptResult extends PromptHit {
  /** False where all tokens were kept already. */
  readonly computed: boolean;
  /** Why what was computed could not be kept, if so: a full store does not take away what it was to keep. */
  readonly notKept?: unknown;
}

/** Makes the cache of a prompt; gets the longest prefix that is kept, if any. */
export type Compute = (prefix: PromptHit | undefined) => Computed | Promise<Computed>;
type Computed = GearCache | PromptEntry<GearCache>;

/** What was computed, if it is what was asked for; otherwise nothing is left of it, nor of the prefix that it did not take. */
export async function computedBy(
  compute: Compute,
  prefix: PromptHit | undefined,
  tokenIds: Uint32Array,
): Promise<PromptEntry<GearCache>> {
  let entry: PromptEntry<GearCache> | undefined;
  try {
    entry = entryOf(await compute(prefix)) as PromptEntry<GearCache>;
    checkedTokens(entry.cache, tokenIds);
  } catch (error) {
    entry?.cache.dispose();
    prefix?.cache.dispose();
    throw error;
  }
  if (entry.cache !== prefix?.cache) prefix?.cache.dispose();
  return entry;
}

/** A cache with what belongs to it. @throws GearError `INVALID_OPTION`. */
export function entryOf(kept: unknown): PromptEntry {
  const given = kept as Partial<PromptEntry & GearCache> | null | undefined;
  if (typeof given?.toStream === 'function' && typeof given.tokens === 'number' && !('cache' in given)) {
    return { cache: kept as GearCache | FrozenCache };
  }
  if (typeof given?.cache?.toStream === 'function') return kept as PromptEntry;
  throw new GearError('INVALID_OPTION', `the cache is ${describe(kept)}; expected a GearCache, or an object with one`);
}

/** A cache of one sequence, which has these tokens. @throws GearError `SHAPE_MISMATCH`. */
export function checkedTokens({ batch, tokens }: GearCache | FrozenCache, tokenIds: Uint32Array): void {
  if (batch === 1 && tokens === tokenIds.length && tokens > 0) return;
  throw new GearError(
    'SHAPE_MISMATCH',
    `${tokenIds.length} tokens were given for a cache of ${batch} sequence(s) of ${tokens}; expected one sequence, and its tokens`,
  );
}
