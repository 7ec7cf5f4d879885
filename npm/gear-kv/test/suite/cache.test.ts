import test from 'ava';
import { type AttentionCase, attention } from './attention.js';
import { halfBits, kvNumbers, relativeError, tokenRange } from './numbers.js';
import { gear, presets, refuses, sameBits } from './support.js';

/** Float32 sums against double-precision ones. */
const ATTENTION_TOLERANCE = 2e-4;

const sizes = { batch: 2, heads: 2, tokens: 150, headDim: 64 };
const keys = kvNumbers(sizes, 5);
const values = kvNumbers(sizes, 6);

type CacheOptions = ConstructorParameters<typeof gear.GearCache>[0];

function filled(options: Partial<CacheOptions> = {}): InstanceType<typeof gear.GearCache> {
  const cache = new gear.GearCache({ layers: 2, batch: 2, kvHeads: 2, headDim: 64, ...options });
  for (let layer = 0; layer < cache.layers; layer++) {
    cache.append(layer, tokenRange(keys, sizes, 0, 100), tokenRange(values, sizes, 0, 100));
    for (let token = 100; token < 150; token++) {
      cache.append(layer, tokenRange(keys, sizes, token, token + 1), tokenRange(values, sizes, token, token + 1));
    }
  }
  return cache;
}

/** Small queries, so that the softmax does not settle on one token. */
function queriesFor({ batch, queryHeads, queries, headDim }: AttentionCase, seed = 9): Float32Array {
  return kvNumbers({ batch, heads: queryHeads, tokens: queries, headDim }, seed).map((x) => Math.round(x * 4) / 64);
}

const cases: Record<string, Partial<AttentionCase>> = {
  'one query': { queries: 1 },
  'as many query heads as KV heads': { queryHeads: 2, queries: 3 },
  'grouped heads': { queryHeads: 6, queries: 2 },
  'several queries, causal': { queries: 20 },
  'as many queries as tokens': { queries: 150, queryHeads: 2 },
  'not causal': { queries: 7, causal: false },
  scale: { queries: 2, scale: 0.4 },
  window: { queries: 5, window: 17 },
  'a window of one token': { queries: 5, window: 1 },
  'a window wider than the cache': { queries: 5, window: 1000 },
  softcap: { queries: 5, softcap: 2.5, scale: 1 },
  'window, softcap and scale': { queries: 9, window: 70, softcap: 4, scale: 0.3 },
};

for (const preset of presets) {
  test(`${preset}: attend is attention on the decompressed cache`, (t) => {
    const cache = filled({ preset });
    for (const [name, extra] of Object.entries(cases)) {
      const all: AttentionCase = {
        batch: 2,
        kvHeads: 2,
        queryHeads: 4,
        tokens: 150,
        queries: 1,
        headDim: 64,
        ...extra,
      };
      const { batch: _b, kvHeads: _k, tokens: _t, queries: _q, headDim: _d, ...options } = all;
      const query = queriesFor(all);
      const given = cache.attend(1, query, options);
      const error = relativeError(given, attention(query, cache.key(1), cache.value(1), all));
      t.true(error < ATTENTION_TOLERANCE, `${name}: relative error ${error}`);
    }
    cache.dispose();
  });
}

test('multi-query attention, odd channels, and a ragged end', (t) => {
  const odd = { batch: 1, heads: 1, tokens: 77, headDim: 33 };
  const cache = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: 33, preset: 'paper-gear-4' });
  cache.append(0, kvNumbers(odd, 1), kvNumbers(odd, 2));
  const all: AttentionCase = { batch: 1, kvHeads: 1, queryHeads: 5, tokens: 77, queries: 4, headDim: 33 };
  const query = queriesFor(all);
  const error = relativeError(
    cache.attend(0, query, { queryHeads: 5 }),
    attention(query, cache.key(0), cache.value(0), all),
  );
  t.true(error < ATTENTION_TOLERANCE, `relative error ${error}`);
});

test('float16 queries, keys and values, also mixed with float32', (t) => {
  const mixed = new gear.GearCache({ layers: 1, batch: 2, kvHeads: 2, headDim: 64 });
  const plain = mixed.fork();
  mixed.append(0, halfBits(keys), values);
  plain.append(0, keys, values);
  t.true(sameBits(mixed.toBytes(), plain.toBytes()));
  const other = new gear.GearCache({ layers: 1, batch: 2, kvHeads: 2, headDim: 64 });
  other.append(0, halfBits(keys), halfBits(values));
  t.true(sameBits(other.toBytes(), plain.toBytes()));
  const all: AttentionCase = { batch: 2, kvHeads: 2, queryHeads: 4, tokens: 150, queries: 3, headDim: 64 };
  const query = queriesFor(all);
  t.true(sameBits(plain.attend(0, query, { queryHeads: 4 }), plain.attend(0, halfBits(query), { queryHeads: 4 })));
});

test('attend writes into an array of the caller, even over the queries', (t) => {
  const cache = filled();
  const query = queriesFor({ batch: 2, kvHeads: 2, queryHeads: 4, tokens: 150, queries: 3, headDim: 64 });
  const expected = cache.attend(0, query, { queryHeads: 4 });
  const out = new Float32Array(query.length);
  t.is(cache.attend(0, query, { queryHeads: 4, out }), out);
  t.true(sameBits(out, expected));
  const both = query.slice();
  t.is(cache.attend(0, both, { queryHeads: 4, out: both }), both);
  t.true(sameBits(both, expected));
});

test('a layer holds what the same appends give a tensor', (t) => {
  const cache = filled({ preset: 'paper-gear-2' });
  for (const role of ['key', 'value'] as const) {
    const all = role === 'key' ? keys : values;
    const shape = { ...sizes, tokens: 0 };
    const packed = gear.compressSync(new Float32Array(), { shape, role, preset: 'paper-gear-2' });
    gear.appendSync(packed, tokenRange(all, sizes, 0, 100));
    for (let token = 100; token < 150; token++) gear.appendSync(packed, tokenRange(all, sizes, token, token + 1));
    t.true(sameBits(role === 'key' ? cache.key(1) : cache.value(1), gear.decompressSync(packed)), role);
  }
});

test('a batch item does not see the others', (t) => {
  const cache = filled({ preset: 'gear-4' });
  const one = { ...sizes, batch: 1 };
  const half = keys.length / 2;
  const query = queriesFor({ batch: 2, kvHeads: 2, queryHeads: 4, tokens: 150, queries: 2, headDim: 64 });
  const both = cache.attend(0, query, { queryHeads: 4 });
  for (const item of [0, 1]) {
    const alone = new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 64 });
    const k = keys.subarray(item * half, (item + 1) * half);
    const v = values.subarray(item * half, (item + 1) * half);
    alone.append(0, tokenRange(k, one, 0, 100), tokenRange(v, one, 0, 100));
    for (let token = 100; token < 150; token++) {
      alone.append(0, tokenRange(k, one, token, token + 1), tokenRange(v, one, token, token + 1));
    }
    const size = query.length / 2;
    const out = alone.attend(0, query.subarray(item * size, (item + 1) * size), { queryHeads: 4 });
    t.true(sameBits(out, both.subarray(item * size, (item + 1) * size)), `item ${item}`);
  }
});

test('sizes and stats add up', (t) => {
  const cache = filled({ preset: 'gear-4' });
  const stats = cache.stats();
  t.deepEqual([stats.layers, stats.batch, stats.kvHeads, stats.headDim, stats.tokens], [2, 2, 2, 64, 150]);
  t.deepEqual([cache.layers, cache.batch, cache.kvHeads, cache.headDim, cache.tokens], [2, 2, 2, 64, 150]);
  t.is(cache.float16ByteLength, 2 * 2 * 2 * keys.length);
  t.is(stats.ratio, cache.float16ByteLength / cache.byteLength);
  let total = 0;
  for (const { key, value, tokens } of stats.perLayer) {
    t.is(tokens, 150);
    for (const { parts, byteLength } of [key, value]) {
      t.is(
        Object.values(parts).reduce((sum, bytes) => sum + bytes, 0),
        byteLength,
      );
      total += byteLength;
    }
  }
  t.true(cache.byteLength >= total);
  t.true(stats.ratio > 1.5, `ratio ${stats.ratio}`);
});

test('keys and values are configured apart', (t) => {
  const cache = filled({ preset: 'gear-4', rank: 2, key: { bits: 8 }, value: { preset: 'kivi-2' } });
  const { keyOptions, valueOptions } = cache.stats();
  t.deepEqual([keyOptions.preset, keyOptions.bits, keyOptions.rank], ['gear-4', 8, 2]);
  t.deepEqual([valueOptions.preset, valueOptions.bits, valueOptions.rank], ['kivi-2', 2, 0]);
  t.true(relativeError(cache.key(0), keys) < 0.02);
  t.true(relativeError(cache.value(0), values) > 0.05);
});

test('layers grow apart in the middle of a step, and tokens is what all of them have', (t) => {
  const cache = filled();
  cache.append(0, tokenRange(keys, sizes, 0, 3), tokenRange(values, sizes, 0, 3));
  t.deepEqual([cache.layerTokens(0), cache.layerTokens(1), cache.tokens], [153, 150, 150]);
});

test('forks share what none of them has changed', (t) => {
  const cache = filled();
  t.is(cache.sharedByteLength, 0);
  const fork = cache.fork();
  t.deepEqual([cache.sharedByteLength, fork.sharedByteLength], [cache.byteLength, cache.byteLength]);
  const before = fork.key(0);
  cache.append(0, tokenRange(keys, sizes, 0, 1), tokenRange(values, sizes, 0, 1));
  t.true(fork.sharedByteLength > 0 && fork.sharedByteLength < fork.byteLength);
  t.true(sameBits(fork.key(0), before));
  cache.dispose();
  t.is(fork.sharedByteLength, 0);
  t.true(sameBits(fork.key(0), before));
  refuses(t, 'DISPOSED', () => cache.sharedByteLength);
});

test('truncate, fork and clear', (t) => {
  const cache = filled();
  const before = [cache.key(0), cache.value(1)] as const;
  const fork = cache.fork();
  cache.truncate(120);
  t.deepEqual([cache.tokens, fork.tokens], [120, 150]);
  t.true(sameBits(cache.key(0), tokenRange(before[0], sizes, 0, 120)));
  t.true(sameBits(cache.value(1), tokenRange(before[1], sizes, 0, 120)));
  t.true(sameBits(fork.key(0), before[0]));
  cache.clear();
  t.deepEqual([cache.tokens, cache.float16ByteLength, cache.stats().ratio], [0, 0, 0]);
  cache.append(0, keys, values);
  t.is(cache.layerTokens(0), 150);
  refuses(t, 'SHAPE_MISMATCH', () => fork.truncate(151), /151/);
  t.is(fork.tokens, 150);
});

test('a failed append changes neither half', (t) => {
  const cache = filled();
  const before = cache.toBytes();
  const bad = tokenRange(values, sizes, 0, 90);
  bad[5] = Number.POSITIVE_INFINITY;
  refuses(t, 'NOT_FINITE', () => cache.append(0, tokenRange(keys, sizes, 0, 90), bad));
  refuses(t, 'SHAPE_MISMATCH', () => cache.append(0, keys, bad), /value has/);
  t.true(sameBits(cache.toBytes(), before));
});
