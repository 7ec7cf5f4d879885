import test from 'ava';
import { golden } from './golden.js';
import { kvNumbers, sha256, tokenRange } from './numbers.js';
import { gear, presets, refuses, rejects, sameBits } from './support.js';

const shape = { batch: 2, heads: 2, tokens: 140, headDim: 32 };
const numbers = kvNumbers(shape, 11);
const part = (from: number, to: number): Float32Array => tokenRange(numbers, shape, from, to);

/** A tensor with sinks (where the preset has them), two segments, and tokens in the buffer. */
function tensor(preset: (typeof presets)[number], role: 'key' | 'value') {
  const packed = gear.compressSync(part(0, 70), { shape: { ...shape, tokens: 70 }, role, preset });
  gear.appendSync(packed, part(70, 140));
  return packed;
}

function cacheOf(preset: (typeof presets)[number] = 'gear-4') {
  const cache = new gear.GearCache({ layers: 3, batch: 2, kvHeads: 2, headDim: 32, preset });
  for (let layer = 0; layer < 3; layer++) cache.append(layer, part(0, 130 + layer), part(0, 130 + layer));
  return cache;
}

test('every preset gives the bytes that are written down, on every backend', async (t) => {
  const hashes: Record<string, string> = {};
  for (const preset of presets) {
    const bytes = [tensor(preset, 'key').toBytes(), tensor(preset, 'value').toBytes()];
    hashes[preset] = (await Promise.all(bytes.map(sha256))).map((hash) => hash.slice(0, 32)).join(' ');
  }
  // To take over new values after a deliberate change of the codec or of the format, copy this line into golden.ts.
  t.deepEqual(hashes, golden, `golden hashes now: ${JSON.stringify(hashes)}`);
});

for (const preset of presets) {
  test(`${preset}: a tensor survives its bytes`, (t) => {
    for (const role of ['key', 'value'] as const) {
      const packed = tensor(preset, role);
      const bytes = packed.toBytes();
      t.is(bytes.constructor, Uint8Array, 'not a Buffer, whose slice() is a view');
      const restored = gear.CompressedTensor.fromBytes(bytes);
      t.deepEqual(restored.shape, packed.shape);
      t.deepEqual(restored.options, packed.options);
      t.deepEqual(restored.parts, packed.parts);
      t.is(restored.role, role);
      t.true(sameBits(gear.decompressSync(restored), gear.decompressSync(packed)));
      t.true(sameBits(restored.toBytes(), bytes));
      gear.appendSync(restored, part(0, 60));
      gear.appendSync(packed, part(0, 60));
      t.true(sameBits(restored.toBytes(), packed.toBytes()), 'appending goes on as before');
    }
  });
}

test('bytes are taken as an ArrayBuffer, or as a part of one at any offset', (t) => {
  const bytes = tensor('gear-2', 'key').toBytes();
  const whole = bytes.slice().buffer;
  t.true(sameBits(gear.CompressedTensor.fromBytes(whole).toBytes(), bytes));
  const larger = new Uint8Array(bytes.length + 20);
  larger.set(bytes, 7);
  t.true(sameBits(gear.CompressedTensor.fromBytes(larger.subarray(7, 7 + bytes.length)).toBytes(), bytes));
});

test('a tensor that was truncated or never filled survives, too', (t) => {
  const packed = tensor('paper-gear-4', 'value');
  packed.truncate(33);
  const restored = gear.CompressedTensor.fromBytes(packed.toBytes());
  t.true(sameBits(gear.decompressSync(restored), gear.decompressSync(packed)));
  packed.clear();
  t.is(gear.CompressedTensor.fromBytes(packed.toBytes()).tokens, 0);
});

test('a cache survives its bytes', (t) => {
  const cache = cacheOf();
  const restored = gear.GearCache.fromBytes(cache.toBytes());
  t.deepEqual(restored.stats(), cache.stats());
  t.deepEqual(
    [0, 1, 2].map((layer) => restored.layerTokens(layer)),
    [130, 131, 132],
  );
  const query = kvNumbers({ batch: 2, heads: 4, tokens: 2, headDim: 32 }, 12);
  t.true(sameBits(restored.attend(1, query, { queryHeads: 4 }), cache.attend(1, query, { queryHeads: 4 })));
  restored.append(0, part(0, 70), part(0, 70));
  cache.append(0, part(0, 70), part(0, 70));
  t.true(sameBits(restored.toBytes(), cache.toBytes()));
});

test('a cache survives a stream', async (t) => {
  const cache = cacheOf('float32');
  const [stream, other] = [cache.toStream(), cache.toStream()];
  cache.dispose();
  const { value } = await other.getReader().read();
  t.is(value?.constructor, Uint8Array);
  const restored = await gear.GearCache.fromStream(stream);
  t.is(restored.tokens, 130);
  t.true(sameBits(restored.toBytes(), cacheOf('float32').toBytes()));
});

test('streams may come in any pieces, from any iterable', async (t) => {
  const bytes = cacheOf().toBytes();
  const pieces = function* () {
    yield new Uint8Array();
    for (let at = 0; at < bytes.length; at += 999) yield bytes.subarray(at, at + 999);
  };
  const later = async function* () {
    yield* pieces();
  };
  for (const source of [pieces(), later(), [bytes], new Blob([bytes.slice()]).stream()]) {
    const restored = await gear.GearCache.fromStream(source);
    t.true(sameBits(restored.toBytes(), bytes));
  }
});

test('a stream that fails, ends early, or is no stream', async (t) => {
  const bytes = cacheOf().toBytes();
  const cause = new Error('the line is dead');
  const broken = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes.slice(0, 100));
      controller.error(cause);
    },
  });
  const error = await t.throwsAsync(gear.GearCache.fromStream(broken));
  t.is((error as unknown as { code: string }).code, 'IO_FAILED');
  t.true(error !== undefined);
  await rejects(t, 'CORRUPT_DATA', () => gear.GearCache.fromStream([bytes.subarray(0, 500)]));
  await rejects(t, 'CORRUPT_DATA', () => gear.GearCache.fromStream([]));
  await rejects(t, 'INVALID_OPTION', () => gear.GearCache.fromStream(bytes as never), /ReadableStream/);
  await rejects(t, 'INVALID_OPTION', () => gear.GearCache.fromStream(7 as never));
  await rejects(t, 'SHAPE_MISMATCH', () => gear.GearCache.fromStream(['text'] as never), /chunk/);
  const locked = cacheOf().toStream();
  const reader = locked.getReader();
  await rejects(t, 'IO_FAILED', () => gear.GearCache.fromStream(locked), /locked/);
  await reader.cancel();
});

test('streams stop at a signal, with its reason', async (t) => {
  const reason = new Error('enough');
  const outgoing = cacheOf()
    .toStream({ signal: AbortSignal.abort(reason) })
    .getReader();
  t.is(await t.throwsAsync(outgoing.read()), reason);
  const controller = new AbortController();
  const silent = new ReadableStream<Uint8Array>();
  const incoming = gear.GearCache.fromStream(silent, { signal: controller.signal });
  setTimeout(() => controller.abort(reason), 5);
  t.is(await t.throwsAsync(incoming), reason);
});

test('damage is found: every cut, trailing bytes, and flipped bits', (t) => {
  const bytes = tensor('gear-2', 'key').toBytes();
  const open = (damaged: Uint8Array) => () => gear.CompressedTensor.fromBytes(damaged);
  for (let length = 0; length < bytes.length; length += length < 200 ? 1 : 97) {
    refuses(t, 'CORRUPT_DATA', open(bytes.subarray(0, length)));
  }
  const longer = new Uint8Array(bytes.length + 1);
  longer.set(bytes);
  refuses(t, 'CORRUPT_DATA', open(longer));
  for (let at = 0; at < bytes.length; at += at < 100 ? 1 : 53) {
    const flipped = bytes.slice();
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
    const error = t.throws(open(flipped));
    const { code } = error as unknown as { code: string };
    t.true(code === 'CORRUPT_DATA' || code === 'UNSUPPORTED_VERSION', `byte ${at}: ${code}`);
  }
});

test('a newer version is named as such', (t) => {
  const bytes = tensor('kivi-2', 'key').toBytes();
  // Magic of 8 bytes, then the version.
  new DataView(bytes.buffer, bytes.byteOffset).setUint32(8, 99, true);
  refuses(t, 'UNSUPPORTED_VERSION', () => gear.CompressedTensor.fromBytes(bytes), /99/);
});

test('a tensor is not a cache, and a cache is not a tensor', (t) => {
  refuses(t, 'INVALID_OPTION', () => gear.GearCache.fromBytes(tensor('kivi-2', 'key').toBytes()), /cache/);
  refuses(t, 'INVALID_OPTION', () => gear.CompressedTensor.fromBytes(cacheOf().toBytes()), /cache/);
  refuses(t, 'CORRUPT_DATA', () =>
    gear.CompressedTensor.fromBytes(new TextEncoder().encode('not a .gear file at all')),
  );
});
