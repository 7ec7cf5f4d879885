import test from 'ava';
import { kvNumbers, relativeError } from './numbers.js';
import { environment, gear, refuses, rejects, sameBits } from './support.js';

const sizes = { batch: 2, heads: 2, tokens: 1100, headDim: 32 };

/** SHA-256 (first half) of a frozen cache's bytes: the same on every backend, as in golden.ts. */
const GOLDEN = '15aefb7a3120925f63c2f01bc282b31c';

function filled(preset: 'float16' | 'gear-4' = 'float16'): InstanceType<typeof gear.GearCache> {
  const cache = new gear.GearCache({ layers: 2, batch: 2, kvHeads: 2, headDim: 32, preset });
  for (let layer = 0; layer < 2; layer++) cache.append(layer, kvNumbers(sizes, layer + 1), kvNumbers(sizes, layer + 5));
  return cache;
}

test('a cache is frozen to the size that was asked for, and thawed to what it was', async (t) => {
  const cache = filled();
  const frozen = await cache.freeze({ bitsPerElement: 4 });
  const stats = frozen.stats();
  t.true(Math.abs(stats.bitsPerElement - 4) < 0.2, `${stats.bitsPerElement}`);
  t.is(stats.byteLength, frozen.byteLength);
  t.is(stats.float16ByteLength, cache.float16ByteLength);
  const layers = stats.perLayer.map((layer) => layer.keyByteLength + layer.valueByteLength);
  t.is(
    layers.reduce((sum, bytes) => sum + bytes, stats.statisticsByteLength),
    stats.byteLength,
  );
  t.deepEqual([frozen.layers, frozen.batch, frozen.kvHeads, frozen.headDim, frozen.tokens], [2, 2, 2, 32, 1100]);
  t.is(frozen.backend, environment.backend);
  const thawed = await frozen.thaw();
  t.is(thawed.stats().keyOptions.preset, 'float16');
  for (const role of ['key', 'value'] as const) {
    t.true(relativeError(thawed[role](1), cache[role](1)) < 0.15);
    t.true(relativeError(thawed[role](1), frozen[role](1)) < 1e-3);
  }
  // The original is still there.
  t.is(cache.tokens, 1100);
});

test('sinks are exact, a finer step is nearer, and more bits', async (t) => {
  const cache = filled();
  const [coarse, fine] = await Promise.all([cache.freeze({ step: 0.8, sinks: 2 }), cache.freeze({ step: 0.2 })]);
  t.deepEqual(coarse.value(0).subarray(0, 64), cache.value(0).subarray(0, 64));
  t.true(relativeError(fine.key(1), cache.key(1)) < relativeError(coarse.key(1), cache.key(1)) / 2);
  t.true(fine.byteLength > coarse.byteLength);
  t.true((await cache.freeze()).byteLength < cache.float16ByteLength / 4);
});

test('channels that queries are large in are kept better', async (t) => {
  const cache = filled();
  const queries = [0, 1].map(() => new Float32Array(4 * 32).map((_, i) => (i % 32 < 8 ? 25 : 1)));
  const frozen = await cache.freeze({ step: 0.6, queries });
  const error = (first: number, end: number): number => {
    const part = (all: Float32Array) => all.filter((_, i) => i % 32 >= first && i % 32 < end);
    return relativeError(part(frozen.key(0)), part(cache.key(0)));
  };
  t.true(error(0, 8) < error(8, 32) / 2, `${error(0, 8)} ${error(8, 32)}`);
});

test('it thaws into any cache', async (t) => {
  const frozen = await filled('gear-4').freeze();
  t.is((await frozen.thaw()).stats().keyOptions.preset, 'gear-4');
  const mixed = await frozen.thaw({ preset: 'gear-2', value: { preset: 'float32' } });
  t.deepEqual([mixed.stats().keyOptions.preset, mixed.stats().valueOptions.preset], ['gear-2', 'float32']);
  t.true(sameBits(mixed.value(0), frozen.value(0)));
});

test('bytes and streams bring it back; the bytes are the same on every backend', async (t) => {
  const frozen = await filled().freeze();
  const bytes = frozen.toBytes();
  const again = gear.FrozenCache.fromBytes(bytes);
  const streamed = await gear.FrozenCache.fromStream(frozen.toStream());
  t.true(sameBits(again.toBytes(), bytes));
  t.true(sameBits(streamed.key(1), frozen.key(1)));
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes.slice()));
  const hash = Array.from(digest.subarray(0, 16), (byte) => byte.toString(16).padStart(2, '0')).join('');
  t.is(hash, GOLDEN, 'after a deliberate change of the codec or of the format, put the new hash into this file');
});

test('damage is found, and other containers are told apart', async (t) => {
  const cache = filled();
  const frozen = await cache.freeze();
  const bytes = frozen.toBytes();
  for (const at of [3, 30, 500, bytes.length >> 1, bytes.length - 1]) {
    const damaged = bytes.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    refuses(t, 'CORRUPT_DATA', () => gear.FrozenCache.fromBytes(damaged));
    refuses(t, 'CORRUPT_DATA', () => gear.FrozenCache.fromBytes(bytes.subarray(0, at)));
  }
  refuses(t, 'INVALID_OPTION', () => gear.GearCache.fromBytes(bytes), /frozen/);
  refuses(t, 'INVALID_OPTION', () => gear.FrozenCache.fromBytes(cache.toBytes()), /whole cache/);
});

test('options that do not fit are refused', async (t) => {
  const cache = filled();
  for (const options of [
    { bitsPerElement: 0.2 },
    { step: 9 },
    { step: 1, bitsPerElement: 3 },
    { bits: 3 },
    { sinks: 1.5 },
  ]) {
    await rejects(t, 'INVALID_OPTION', () => cache.freeze(options));
  }
  await rejects(t, 'SHAPE_MISMATCH', () => cache.freeze({ queries: [new Float32Array(128)] }), /2 Float32Arrays/);
  const broken = [new Float32Array(128), new Float32Array(128).fill(Number.NaN)];
  await rejects(t, 'NOT_FINITE', () => cache.freeze({ queries: broken }));
  const frozen = await cache.freeze({ step: 1 });
  await rejects(t, 'INVALID_OPTION', () => frozen.thaw({ preset: 'gear-9' as 'gear-4' }), /gear-9/);
  refuses(t, 'SHAPE_MISMATCH', () => frozen.key(2), /0 to 1/);
});

test('work that is stopped rejects with the reason, and what is disposed of is gone', async (t) => {
  const cache = filled();
  const stopped = AbortSignal.abort('enough');
  t.is(await cache.freeze({ signal: stopped }).catch((reason) => reason), 'enough');
  const controller = new AbortController();
  const late = cache.freeze({ signal: controller.signal });
  controller.abort('late');
  t.is(await late.catch((reason) => reason), 'late');
  const frozen = await cache.freeze();
  t.is(await frozen.thaw({ signal: stopped }).catch((reason) => reason), 'enough');
  const thawing = frozen.thaw({ signal: controller.signal });
  t.is(await thawing.catch((reason) => reason), 'late');
  frozen.dispose();
  frozen.dispose();
  refuses(t, 'DISPOSED', () => frozen.byteLength);
  await rejects(t, 'DISPOSED', () => frozen.thaw());
  cache.dispose();
  await rejects(t, 'DISPOSED', () => cache.freeze());
});
