// A cache on a GPU against the same cache on the CPU. Without a test framework, so that it also runs where there is a GPU and no more.
import assert from 'node:assert/strict';
import type * as Gear from 'gear-kv';
import { attention } from '../suite/attention.js';
import { halfBits, kvNumbers } from '../suite/numbers.js';

type Cache = InstanceType<typeof Gear.GearCache>;
type Options = ConstructorParameters<typeof Gear.GearCache>[0];

const BATCH = 2;
const KV_HEADS = 2;
const QUERY_HEADS = 4;
const HEAD_DIM = 64;

/** As crates/gearkv-cuda/tests/common has them: float32 sums on the stand-in, tensor cores on a GPU; and of as many queries of a KV head as come in tiles. */
const TOLERANCES = { standIn: 2e-5, gpu: 5e-4, tiles: 3e-3 };
const WORTH_A_TILE = 16;

/** Two caches that get the same: one of them on the GPU. */
class Both {
  readonly there: Cache;
  readonly here: Cache;
  #seed = 100;

  constructor(
    readonly gear: typeof Gear,
    options: Partial<Options>,
  ) {
    const all: Options = {
      layers: 1,
      batch: BATCH,
      kvHeads: KV_HEADS,
      headDim: HEAD_DIM,
      bufferTokens: 16,
      ...options,
    };
    this.there = new gear.GearCache({ ...all, device: 'cuda' });
    this.here = new gear.GearCache(all);
  }

  rows(heads: number, tokens: number): Float32Array {
    return kvNumbers({ batch: this.here.batch, heads, tokens, headDim: HEAD_DIM }, this.#seed++);
  }

  append(tokens: number, { half = false, queries = false } = {}): void {
    const [k, v] = [this.rows(KV_HEADS, tokens), this.rows(KV_HEADS, tokens)];
    const options = queries ? { queries: this.rows(QUERY_HEADS, tokens), queryHeads: QUERY_HEADS } : {};
    for (const cache of [this.there, this.here]) {
      if (half) cache.append(0, halfBits(k), halfBits(v), options);
      else cache.append(0, k, v, options);
    }
  }

  each(change: (cache: Cache) => void): void {
    for (const cache of [this.there, this.here]) change(cache);
  }

  check(what: string, queries = 1, how: { window?: number; softcap?: number; causal?: boolean } = {}): void {
    const { there, here } = this;
    const device = there.device;
    assert.equal(device.kind, 'cuda');
    const query = this.rows(QUERY_HEADS, queries).map((x) => x / 16);
    const out = there.attend(0, query, { queryHeads: QUERY_HEADS, ...how });
    const [batch, tokens] = [here.batch, here.tokens];
    const sizes = { batch, kvHeads: KV_HEADS, queryHeads: QUERY_HEADS, tokens, queries, headDim: HEAD_DIM, ...how };
    const expected = attention(query, here.key(0), here.value(0), sizes);
    const largest = expected.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    const off = out.reduce((most, x, i) => Math.max(most, Math.abs(x - (expected[i] ?? Number.NaN))), 0) / largest;
    const single = device.name === 'stand-in' ? TOLERANCES.standIn : TOLERANCES.gpu;
    const tolerance = (queries * QUERY_HEADS) / KV_HEADS >= WORTH_A_TILE ? TOLERANCES.tiles : single;
    assert.ok(off <= tolerance, `${what}, ${tokens} tokens: off by ${off}`);
    assert.ok(device.kind === 'cuda' && there.device.kind === 'cuda' && there.device.byteLength > 0);
    assert.equal(there.tokens, here.tokens);
    assert.equal(there.byteLength, here.byteLength);
    assert.deepEqual(there.toBytes(), here.toBytes());
  }
}

type Check = (gear: typeof Gear) => void | Promise<void>;

/** What is checked, by title. */
export const checks: Readonly<Record<string, Check>> = {
  'every preset, prompts, steps and chunks': (gear) => {
    for (const preset of gear.presets.filter((name) => name !== 'float32')) {
      const both = new Both(gear, preset === 'float16' ? { preset, bufferTokens: undefined as never } : { preset });
      both.append(20);
      both.check(preset);
      for (let step = 0; step < 35; step++) {
        both.append(1);
        if (step % 11 === 0) both.check(preset);
      }
      both.append(5);
      both.check(preset, 3);
      both.append(30);
      both.check(preset);
    }
  },

  'float16, queries, windows, softcaps and all tokens at once': (gear) => {
    const both = new Both(gear, { preset: 'gear-3' });
    both.append(20, { half: true });
    both.append(3, { half: true, queries: true });
    both.append(20, { queries: true });
    both.check('with queries');
    both.check('a window', 3, { window: 5 });
    both.check('a softcap', 2, { softcap: 3 });
    both.check('not causal', 4, { causal: false });
    both.check('as many as tokens', both.here.tokens);
    both.check('as many as come in tiles', 9);
    // More queries than tokens, which see all of them, are the CPU's wherever the cache is.
    const many = both.rows(QUERY_HEADS, both.here.tokens + 1);
    const [there, here] = [both.there, both.here].map((cache) =>
      cache.attend(0, many, { queryHeads: QUERY_HEADS, causal: false }),
    );
    assert.deepEqual(there, here);
  },

  'truncated, shifted, reordered, cleared and forked': (gear) => {
    const both = new Both(gear, {});
    both.append(20);
    both.append(9);
    both.check('before');
    for (const tokens of [27, 12]) {
      both.each((cache) => cache.truncate(tokens));
      both.check(`truncated to ${tokens}`);
    }
    both.append(25);
    both.each((cache) => cache.shift({ drop: 6 }));
    both.check('shifted');
    both.each((cache) => cache.reorder([1, 1, 0]));
    both.append(2);
    both.check('reordered');
    const [there, here] = [both.there.fork(), both.here.fork()];
    both.append(17);
    both.check('the original');
    assert.equal(there.device.kind, 'cuda');
    assert.deepEqual(there.toBytes(), here.toBytes());
    const query = both.rows(QUERY_HEADS, 1);
    const [on, off] = [there, here].map((cache) => cache.attend(0, query, { queryHeads: QUERY_HEADS }));
    assert.ok(on?.every((x, i) => Math.abs(x - (off?.[i] ?? Number.NaN)) < 0.02));
    there.dispose();
    both.check('without the fork');
    both.each((cache) => cache.clear());
    both.append(3);
    both.check('cleared');
  },

  'saved and restored, frozen and thawed': async (gear) => {
    const both = new Both(gear, { preset: 'gear-4' });
    both.append(40);
    both.check('before');
    const back = gear.GearCache.fromBytes(both.there.toBytes(), { device: 'cuda' });
    assert.equal(back.device.kind, 'cuda');
    const frozen = await both.there.freeze();
    assert.deepEqual(frozen.toBytes(), (await both.here.freeze()).toBytes());
    const thawed = await frozen.thaw({ device: 'cuda' });
    for (const cache of [back, thawed]) {
      const out = cache.attend(0, both.rows(QUERY_HEADS, 1), { queryHeads: QUERY_HEADS });
      assert.ok(out.every(Number.isFinite));
      assert.ok(cache.device.kind === 'cuda' && cache.device.byteLength > 0);
    }
  },

  'the GPU is opened before a cache asks for it': async (gear) => {
    const device = await gear.loadDevice('cuda');
    const cache = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: 64, device: 'cuda' });
    assert.deepEqual(cache.device, device);
  },

  'what is wrong is refused as on the CPU': (gear) => {
    const both = new Both(gear, {});
    both.append(5);
    both.check('before');
    const bad = both.rows(QUERY_HEADS, 1).fill(Number.NaN);
    const tokens = both.rows(KV_HEADS, 1).fill(Number.POSITIVE_INFINITY);
    for (const wrong of [
      (cache: Cache) => cache.attend(0, bad, { queryHeads: QUERY_HEADS }),
      (cache: Cache) => cache.attend(0, both.rows(QUERY_HEADS, 6), { queryHeads: QUERY_HEADS }),
      (cache: Cache) => cache.attend(0, bad.subarray(1), { queryHeads: QUERY_HEADS }),
      (cache: Cache) => cache.append(0, tokens, tokens),
      (cache: Cache) => cache.truncate(6),
    ]) {
      const [there, here] = [both.there, both.here].map((cache) => {
        try {
          wrong(cache);
        } catch (error) {
          return String(error);
        }
        return 'nothing';
      });
      assert.equal(there, here);
      assert.notEqual(there, 'nothing');
    }
    both.check('as it was');
    const float32 = { layers: 1, kvHeads: 1, headDim: 64, preset: 'float32' } as const;
    assert.throws(() => new gear.GearCache({ ...float32, device: 'cuda' }), { code: 'INVALID_OPTION' });
    const { device } = new gear.GearCache({ ...float32, device: 'auto' });
    assert.ok(device.kind === 'cpu' && /float32/.test(device.reason ?? ''));
    both.there.dispose();
    assert.throws(() => both.there.device, { code: 'DISPOSED' });
  },
};
