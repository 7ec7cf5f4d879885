import type { About } from '../about.js';
import { describe, GearError } from '../errors.js';
import type { FrozenCache, GearCache } from '../public.js';
import type { Layout } from './layout.js';

/** Where a saved cache says what its layers are called; the rest of `metadata` is the application's. */
const NOTE = 'gear-kv.entries';

interface TravelNote {
  readonly type: 'float32' | 'float16';
  readonly layers: readonly string[];
}

/** The application's metadata, and what is to be known to make entries of the cache again. */
export function withTravelNote(metadata: About['metadata'], layout: Layout): NonNullable<About['metadata']> {
  return { ...metadata, [NOTE]: { type: layout.type, layers: [...layout.layers] } };
}

/** Reads it, checked: a file may say anything. */
export function readTravelNote(cache: GearCache | FrozenCache, about: About): Layout {
  const { type, layers } = (about.metadata?.[NOTE] ?? {}) as Partial<TravelNote>;
  const names = Array.isArray(layers) && layers.every((name) => typeof name === 'string') ? layers : [];
  if (
    (type !== 'float32' && type !== 'float16') ||
    names.length !== cache.layers ||
    new Set(names).size !== names.length
  ) {
    throw new GearError(
      'CORRUPT_DATA',
      `the cache does not say what its ${cache.layers} layers are called; only caches of freezeCache, freezeTensors and GearDynamicCache do`,
    );
  }
  const others = Object.keys(about.arrays ?? {});
  // They become properties of caches, whose methods they must not take the place of.
  const strange = [...names, ...others].find((name) => !name.startsWith('past_'));
  if (strange !== undefined) {
    throw new GearError(
      'CORRUPT_DATA',
      `the cache has an entry called ${describe(strange)}; those of models begin with 'past_'`,
    );
  }
  const { batch, kvHeads, headDim } = cache;
  return { layers: names, others, type, batch, kvHeads, headDim };
}
