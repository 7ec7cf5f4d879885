import test from 'ava';
import { goldenQueried } from './golden.js';
import { modelAttention, modelLayers, modelShape } from './model-cache.js';
import { halfBits, kvNumbers, relativeError, sha256, tokenRange } from './numbers.js';
import { gear, presets, refuses, sameBits } from './support.js';

const sizes = { batch: 2, heads: 2, tokens: 200, headDim: 32 };
const keys = kvNumbers(sizes, 21);
const values = kvNumbers(sizes, 22);
const querySizes = { ...sizes, heads: 4 };
const queries = kvNumbers(querySizes, 23).map((x) => Math.round(x * 4) / 32);

type Cache = InstanceType<typeof gear.GearCache>;
type CacheOptions = Partial<ConstructorParameters<typeof gear.GearCache>[0]>;
type How = Parameters<Cache['append']>[3];

const empty = (options: CacheOptions = {}): Cache =>
  new gear.GearCache({ layers: 1, batch: 2, kvHeads: 2, headDim: 32, ...options });
const keysOf = (from: number, to: number): Float32Array => tokenRange(keys, sizes, from, to);
const valuesOf = (from: number, to: number): Float32Array => tokenRange(values, sizes, from, to);
const queriesOf = (from: number, to: number): Float32Array => tokenRange(queries, querySizes, from, to);

/** Appends tokens with their queries. */
function look(cache: Cache, from: number, to: number, extra: How = {}): void {
  cache.append(0, keysOf(from, to), valuesOf(from, to), { queries: queriesOf(from, to), queryHeads: 4, ...extra });
}

const PRESETS = ['gear-4', 'gear-3', 'gear-2', 'gear-l-4', 'gear-l-3', 'gear-l-2'] as const;

const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;

test('what was compressed for queries answers later queries like them better at the same size', async (t) => {
  const shown = 16;
  const recorded = { heads: 9, tokens: 32, headDim: 64 };
  const later = recorded.tokens - shown;
  for (const preset of ['gear-4', 'gear-3', 'gear-2'] as const) {
    const errors = { without: 0, with: 0 };
    for (const { name, key, value, query } of await modelLayers()) {
      // The recorded queries follow the 512 tokens; the first of them stand in for those of the newest tokens.
      const standIn = new Uint16Array(9 * modelShape.tokens * 64);
      for (let head = 0; head < 9; head++) {
        for (let token = 0; token < modelShape.tokens; token++) {
          const from = (head * recorded.tokens + (token % shown)) * 64;
          standIn.set(query.subarray(from, from + 64), (head * modelShape.tokens + token) * 64);
        }
      }
      const asked = tokenRange(query, recorded, shown, shown + later);
      const answer = (options: CacheOptions, how?: How): [Float32Array, number] => {
        const cache = new gear.GearCache({ layers: 1, kvHeads: 3, headDim: 64, ...options });
        cache.append(0, key, value, how);
        const out = cache.attend(0, asked, modelAttention);
        const { byteLength } = cache;
        cache.dispose();
        return [out, byteLength];
      };
      const [exact] = answer({ preset: 'float32' });
      const [plain, plainBytes] = answer({ preset });
      const [queried, queriedBytes] = answer({ preset }, { queries: standIn, queryHeads: 9, scale: 1 / 8 });
      errors.without += relativeError(plain, exact) / 4;
      errors.with += relativeError(queried, exact) / 4;
      t.true(
        Math.abs(queriedBytes / plainBytes - 1) < 0.005,
        `${preset} ${name}: ${queriedBytes}, ${plainBytes} bytes`,
      );
    }
    t.log(`${preset}: ${percent(errors.with)} with queries, ${percent(errors.without)} without`);
    t.true(errors.with < 0.8 * errors.without, `${preset}: ${errors.with} with queries, ${errors.without} without`);
  }
});

test('the bytes are those that are written down, on every backend', async (t) => {
  const hashes: Record<string, string> = {};
  for (const preset of PRESETS) {
    const plain = empty({ preset });
    plain.append(0, keysOf(0, 70), valuesOf(0, 70));
    for (let token = 70; token < 140; token++) plain.append(0, keysOf(token, token + 1), valuesOf(token, token + 1));
    const queried = empty({ preset });
    look(queried, 0, 70);
    for (let token = 70; token < 140; token++) look(queried, token, token + 1);
    const differently = empty({ preset });
    look(differently, 0, 140, { scale: 0.3, window: 20, softcap: 5 });
    const bytes = [plain, queried, differently].map((cache) => cache.toBytes());
    hashes[preset] = (await Promise.all(bytes.map(sha256))).map((hash) => hash.slice(0, 32)).join(' ');
  }
  t.deepEqual(hashes, goldenQueried, `golden hashes now: ${JSON.stringify(hashes)}`);
});

test('token by token is the same as a whole buffer at once', (t) => {
  const single = empty({ preset: 'gear-2' });
  look(single, 0, 70);
  const whole = single.fork();
  for (let token = 70; token < 134; token++) look(single, token, token + 1);
  look(whole, 70, 134);
  t.true(sameBits(single.toBytes(), whole.toBytes()));
  const plain = empty({ preset: 'gear-2' });
  plain.append(0, keysOf(0, 70), valuesOf(0, 70));
  plain.append(0, keysOf(70, 134), valuesOf(70, 134));
  t.false(sameBits(plain.toBytes(), whole.toBytes()));
});

test('float16 and float32, also mixed, and no queries but undefined ones', (t) => {
  const expected = empty();
  look(expected, 0, 100);
  const k = keysOf(0, 100);
  const v = valuesOf(0, 100);
  const q = queriesOf(0, 100);
  const { Float16Array: Half } = globalThis as unknown as {
    Float16Array?: new (numbers: Float32Array) => Uint16Array;
  };
  const halves = [halfBits, ...(Half === undefined ? [] : [(numbers: Float32Array) => new Half(numbers)])];
  for (const half of halves) {
    for (const [key, value, given] of [
      [half(k), half(v), half(q)],
      [half(k), half(v), q],
      [k, v, half(q)],
      [half(k), v, half(q)],
    ] as const) {
      const cache = empty();
      cache.append(0, key, value, { queries: given, queryHeads: 4 });
      t.true(sameBits(cache.toBytes(), expected.toBytes()));
    }
  }
  const plain = empty();
  plain.append(0, k, v);
  for (const nothing of [{}, { queries: undefined, queryHeads: undefined } as never, undefined]) {
    const cache = empty();
    cache.append(0, k, v, nothing);
    t.true(sameBits(cache.toBytes(), plain.toBytes()));
  }
});

test('where bits are not dealt out, queries make no difference', (t) => {
  for (const preset of presets.filter((name) => !PRESETS.includes(name as never))) {
    const [plain, queried] = [empty({ preset }), empty({ preset })];
    plain.append(0, keysOf(0, 100), valuesOf(0, 100));
    look(queried, 0, 100);
    t.true(sameBits(queried.toBytes(), plain.toBytes()), preset);
    t.is(queried.byteLength, plain.byteLength);
  }
});

test('a batch item does not see the queries of the others', (t) => {
  const both = empty({ preset: 'gear-3' });
  look(both, 0, 100);
  const one = { ...sizes, tokens: 100, batch: 1 };
  const item = (all: Float32Array, index: number): Float32Array => {
    const size = all.length / 2;
    return all.subarray(index * size, (index + 1) * size);
  };
  for (const index of [0, 1]) {
    const alone = empty({ preset: 'gear-3', batch: 1 });
    const how = { queries: item(queriesOf(0, 100), index), queryHeads: 4 };
    alone.append(0, item(keysOf(0, 100), index), item(valuesOf(0, 100), index), how);
    t.is(alone.key(0).length, one.heads * one.tokens * one.headDim);
    t.true(sameBits(alone.key(0), item(both.key(0), index)), `keys of item ${index}`);
    t.true(sameBits(alone.value(0), item(both.value(0), index)), `values of item ${index}`);
  }
});

test('queries wait with the tokens of the buffer, and go when those are compressed', (t) => {
  const [plain, queried] = [empty(), empty()];
  const append = (from: number, to: number): void => {
    plain.append(0, keysOf(from, to), valuesOf(from, to));
    look(queried, from, to);
  };
  append(0, 100);
  const rest = queried.byteLength - plain.byteLength;
  append(100, 130);
  t.is(queried.byteLength - plain.byteLength - rest, 4 * 2 * 4 * 30 * 32, 'float32, [batch, queryHeads, 30, headDim]');
  // What waits is as it came: these numbers fit float16.
  const waiting = { ...sizes, tokens: 130 };
  t.true(sameBits(tokenRange(queried.key(0), waiting, 100, 130), keysOf(100, 130)));
  t.true(sameBits(tokenRange(queried.value(0), waiting, 100, 130), valuesOf(100, 130)));
  t.true(queried.toBytes().length <= plain.toBytes().length + rest + 64, 'files do not hold them');
  append(130, 164);
  t.true(Math.abs(queried.byteLength / plain.byteLength - 1) < 0.02, `${queried.byteLength}, ${plain.byteLength}`);
});

test('forks go their own ways, with the queries of before', (t) => {
  const cache = empty({ preset: 'gear-2' });
  look(cache, 0, 100);
  look(cache, 100, 130);
  const [same, other] = [cache.fork(), cache.fork()];
  look(cache, 130, 164);
  look(same, 130, 164);
  other.append(0, keysOf(130, 164), valuesOf(130, 164));
  t.true(sameBits(same.toBytes(), cache.toBytes()));
  t.is(other.tokens, 164);
  t.false(sameBits(other.value(0), cache.value(0)), 'queries of the fork are not those of the other');
});

test('truncate forgets them, clear does, and so do bytes; the cache goes on', (t) => {
  const cut = empty({ preset: 'gear-3' });
  look(cut, 0, 100);
  look(cut, 100, 130);
  const before = cut.key(0);
  const restored = gear.GearCache.fromBytes(cut.toBytes());
  t.true(sameBits(restored.key(0), before));
  restored.truncate(110);
  const full = cut.byteLength;
  cut.truncate(110);
  t.true(cut.byteLength < full - 4 * 2 * 4 * 30 * 32);
  t.true(sameBits(tokenRange(before, { ...sizes, tokens: 130 }, 0, 110), cut.key(0)));
  for (const cache of [cut, restored]) look(cache, 110, 200);
  t.true(sameBits(restored.toBytes(), cut.toBytes()));
  t.is(cut.tokens, 200);
  t.true(relativeError(cut.key(0), keys) < 0.25);

  const [cleared, fresh] = [cut.fork(), empty({ preset: 'gear-3' })];
  cleared.clear();
  for (const cache of [cleared, fresh]) look(cache, 0, 150);
  t.true(sameBits(cleared.toBytes(), fresh.toBytes()));
});

test('from call to call there may be other query heads, or none', (t) => {
  const cache = empty();
  look(cache, 0, 20);
  const twice = new Float32Array(2 * queriesOf(20, 40).length).fill(0.25);
  cache.append(0, keysOf(20, 40), valuesOf(20, 40), { queries: twice, queryHeads: 8 });
  look(cache, 40, 50, { scale: 0.5 });
  cache.append(0, keysOf(50, 60), valuesOf(50, 60));
  look(cache, 60, 60);
  look(cache, 60, 200);
  t.is(cache.tokens, 200);
  t.true(relativeError(cache.value(0), values) < 0.2);
});

test('what is wrong with queries is named, and nothing is appended', (t) => {
  const cache = empty();
  look(cache, 0, 100);
  look(cache, 100, 120);
  const bytes = cache.toBytes();
  const size = cache.byteLength;
  const q = queriesOf(120, 170);
  const give = (how: object): void => cache.append(0, keysOf(120, 170), valuesOf(120, 170), how as never);

  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: q }), /queryHeads is undefined/);
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: q, queryHeads: 0 }), /queryHeads is 0/);
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: q, queryHeads: '4' }), /queryHeads is '4'/);
  refuses(
    t,
    'SHAPE_MISMATCH',
    () => give({ queries: q.subarray(1), queryHeads: 4 }),
    /12799.*expected 12800.*2, 4, 50, 32/,
  );
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: queriesOf(120, 140), queryHeads: 4 }), /50 tokens that key has/);
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: q.subarray(0, 9600), queryHeads: 3 }), /3.*multiple of the 2/);
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: [1, 2], queryHeads: 4 }), /queries is .*Float32Array/);
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: null, queryHeads: 4 }), /queries is null/);
  refuses(t, 'INVALID_OPTION', () => give({ queryHeads: 4 }), /queryHeads is given without queries/);
  refuses(t, 'INVALID_OPTION', () => give({ window: 4 }), /window is given without queries/);
  refuses(t, 'INVALID_OPTION', () => give({ queries: q, queryHeads: 4, causal: false }), /no option 'causal'/);
  refuses(t, 'INVALID_OPTION', () => give({ queries: q, queryHeads: 4, query: q }), /no option 'query'/);
  refuses(t, 'INVALID_OPTION', () => give({ queries: q, queryHeads: 4, scale: Number.NaN }), /scale is NaN/);
  refuses(t, 'INVALID_OPTION', () => give({ queries: q, queryHeads: 4, window: 0 }), /window is 0/);
  refuses(t, 'INVALID_OPTION', () => give({ queries: q, queryHeads: 4, softcap: -1 }), /softcap is -1/);
  refuses(t, 'INVALID_OPTION', () => give(q), /no option '0'/);
  refuses(
    t,
    'INVALID_OPTION',
    () => cache.append(0, keysOf(120, 170), valuesOf(120, 170), 7 as never),
    /is 7; expected an object/,
  );

  // [batch 1, head 2, query 3, channel 5] of [2, 4, 50, 32]
  const bad = q.slice();
  bad[((1 * 4 + 2) * 50 + 3) * 32 + 5] = Number.NaN;
  refuses(t, 'NOT_FINITE', () => give({ queries: bad, queryHeads: 4 }), /batch 1, head 2, query 3, channel 5.*NaN/);
  const badKeys = keysOf(120, 170);
  badKeys[7] = Number.POSITIVE_INFINITY;
  const badValues = valuesOf(120, 170);
  badValues[badValues.length - 1] = Number.NaN;
  const how = { queries: q, queryHeads: 4 };
  refuses(t, 'NOT_FINITE', () => cache.append(0, badKeys, valuesOf(120, 170), how), /token 0, channel 7.*inf/);
  refuses(t, 'NOT_FINITE', () => cache.append(0, keysOf(120, 170), badValues, how), /batch 1, head 1.*NaN/);

  const moved = q.slice();
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  refuses(t, 'SHAPE_MISMATCH', () => give({ queries: moved, queryHeads: 4 }), /queries.*moved away/);

  t.true(sameBits(cache.toBytes(), bytes));
  t.is(cache.byteLength, size);
  look(cache, 120, 170);
  t.is(cache.tokens, 170);
  cache.dispose();
  refuses(t, 'DISPOSED', () => give(how), /disposed/);
});

test('queries may be moved, changed, or part of a larger or shared array', (t) => {
  const expected = empty({ preset: 'gear-2' });
  look(expected, 0, 60);
  look(expected, 60, 100);
  const larger = new Float32Array(queriesOf(60, 100).length + 9).fill(Number.NaN);
  larger.set(queriesOf(60, 100), 5);
  const cache = empty({ preset: 'gear-2' });
  const first = queriesOf(0, 60);
  cache.append(0, keysOf(0, 60), valuesOf(0, 60), { queries: first, queryHeads: 4 });
  structuredClone(first.buffer, { transfer: [first.buffer] });
  const part = larger.subarray(5, larger.length - 4);
  cache.append(0, keysOf(60, 100), valuesOf(60, 100), { queries: part, queryHeads: 4 });
  part.fill(0);
  t.true(sameBits(cache.toBytes(), expected.toBytes()));
  if (typeof SharedArrayBuffer === 'undefined') return;
  const shared = new Float32Array(new SharedArrayBuffer(queriesOf(0, 60).byteLength));
  shared.set(queriesOf(0, 60));
  const other = empty({ preset: 'gear-2' });
  other.append(0, keysOf(0, 60), valuesOf(0, 60), { queries: shared, queryHeads: 4 });
  look(other, 60, 100);
  t.true(sameBits(other.toBytes(), expected.toBytes()));
});
