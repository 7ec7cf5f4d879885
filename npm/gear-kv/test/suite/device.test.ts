// Where a cache is, on machines with and without a GPU: what a GPU does is in test/cuda.
import test from 'ava';
import { kvNumbers, tokenRange } from './numbers.js';
import { environment, gear, refuses, rejects, sameBits } from './support.js';

const sizes = { batch: 1, heads: 2, tokens: 70, headDim: 32 };
const keys = kvNumbers(sizes, 5);
const values = kvNumbers(sizes, 6);
const shape = { layers: 1, kvHeads: 2, headDim: 32 };
type Device = InstanceType<typeof gear.GearCache>['device'];

/** A driver, a GPU, or a backend that could use them. */
const LACKING = /driver|GPU|operating system/;

/** Whether there is a GPU; where there is none, whether the reason is one. */
function isThere(device: Device): boolean {
  if (device.kind === 'cuda') return true;
  if (!LACKING.test(device.reason ?? '')) throw new Error(`this is no reason: ${device.reason}`);
  return false;
}

test('a cache is in main memory unless it is told otherwise', (t) => {
  t.deepEqual(new gear.GearCache(shape).device, { kind: 'cpu' });
  t.deepEqual(new gear.GearCache({ ...shape, device: 'cpu' }).device, { kind: 'cpu' });
  refuses(t, 'INVALID_OPTION', () => new gear.GearCache({ ...shape, device: 'tpu' as never }), /device is 'tpu'/);
});

test('auto does without a GPU and says why', async (t) => {
  const cache = new gear.GearCache({ ...shape, device: 'auto' });
  const there = isThere(cache.device);
  if (environment.backend === 'wasm') t.false(there);
  const plain = new gear.GearCache(shape);
  for (const each of [cache, plain]) {
    each.append(0, keys, values);
    each.append(0, tokenRange(keys, sizes, 3, 4), tokenRange(values, sizes, 3, 4));
  }
  const query = kvNumbers({ batch: 1, heads: 4, tokens: 1, headDim: 32 }, 7).map((x) => x / 16);
  const [out, expected] = [cache, plain].map((each) => each.attend(0, query, { queryHeads: 4 }));
  t.true(out?.every((x, i) => Math.abs(x - (expected?.[i] ?? 0)) < 2e-3));
  t.true(sameBits(cache.toBytes(), plain.toBytes()));
  t.true(sameBits(cache.key(0), plain.key(0)));
  t.deepEqual(cache.stats(), plain.stats());
  // Wherever a cache comes from.
  const frozen = await plain.freeze();
  for (const other of [
    cache.fork(),
    gear.GearCache.fromBytes(cache.toBytes(), { device: 'auto' }),
    await gear.GearCache.fromStream([cache.toBytes()], { device: 'auto' }),
    await frozen.thaw({ device: 'auto' }),
  ]) {
    t.is(isThere(other.device), there);
  }
  t.deepEqual(gear.GearCache.fromBytes(cache.toBytes()).device, { kind: 'cpu' });
  t.deepEqual((await frozen.thaw()).device, { kind: 'cpu' });
});

test('cuda insists on a GPU', async (t) => {
  const there = isThere(new gear.GearCache({ ...shape, device: 'auto' }).device);
  const cache = new gear.GearCache(shape);
  cache.append(0, keys, values);
  const bytes = cache.toBytes();
  if (there) {
    t.is(new gear.GearCache({ ...shape, device: 'cuda' }).device.kind, 'cuda');
    return;
  }
  refuses(t, 'BACKEND_UNAVAILABLE', () => new gear.GearCache({ ...shape, device: 'cuda' }), LACKING);
  refuses(t, 'BACKEND_UNAVAILABLE', () => gear.GearCache.fromBytes(bytes, { device: 'cuda' }), LACKING);
  const frozen = await cache.freeze();
  await rejects(t, 'BACKEND_UNAVAILABLE', () => frozen.thaw({ device: 'cuda' }), LACKING);
});

test('a GPU is opened in the background', async (t) => {
  const here = new gear.GearCache({ ...shape, device: 'auto' }).device;
  t.deepEqual(await gear.loadDevice(), here);
  t.deepEqual(await gear.loadDevice('cpu'), { kind: 'cpu' });
  if (here.kind === 'cuda') t.deepEqual(await gear.loadDevice('cuda'), here);
  else await rejects(t, 'BACKEND_UNAVAILABLE', () => gear.loadDevice('cuda'), LACKING);
  await rejects(t, 'INVALID_OPTION', () => gear.loadDevice('tpu' as never), /device is 'tpu'/);
});

test('only a whole cache can be on a GPU', (t) => {
  const key = { device: 'cuda' } as const;
  refuses(t, 'BACKEND_UNAVAILABLE', () => new gear.GearCache({ ...shape, key }), /as a whole/);
  const options = { shape: sizes, role: 'key', device: 'cuda' } as const;
  refuses(t, 'BACKEND_UNAVAILABLE', () => gear.compressSync(keys, options), /as a whole/);
});
