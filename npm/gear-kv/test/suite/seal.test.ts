import test from 'ava';
import fc from 'fast-check';
import { kvNumbers } from './numbers.js';
import { gear, refuses, rejects, sameBits } from './support.js';

/** The layout of docs/sealing.md, by another implementation (Node's own HKDF and AES): chunks of 16 bytes, 40 bytes in all. */
const VECTOR = {
  key: Uint8Array.from({ length: 32 }, (_, index) => index),
  plain: 'A cache holds the conversation it is of.',
  sealed:
    '474541525345414c01000000100000006465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f808182830102030405060700' +
    'a1d6c9477fffdf9cf4094552d518458c2e41ba2f9f42a2e89464a500916564f3' +
    '6d3f59117262ef2353379a892e9ada9e7f2210015a690c4c3a672b8f84ba6ffe' +
    '520d28ee210e2ddd9c0a1a6c70295096debb61bc96fa92ec',
};
const HEADER = 56;
const TAG = 16;
const CHUNK = 1 << 18;

const key = crypto.getRandomValues(new Uint8Array(32));
const otherKey = crypto.getRandomValues(new Uint8Array(32));

async function all(stream: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const reader = stream.getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return new Uint8Array(await new Blob(pieces).arrayBuffer());
    pieces.push(value.slice());
  }
}

const sealed = (bytes: Uint8Array, by: gear.SealKey = key) => all(gear.seal([bytes], { key: by }));
const unsealed = (bytes: Uint8Array, by: gear.SealKey = key) => all(gear.unseal([bytes], { key: by }));

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Not a multiple of a period, so that no two chunks are alike. */
function someBytes(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8)) & 255);
}

/** A reader that knows docs/sealing.md only. */
async function readByTheBook(bytes: Uint8Array): Promise<Uint8Array> {
  const copy = new Uint8Array(bytes);
  const view = new DataView(copy.buffer);
  const header = copy.slice(0, HEADER);
  const chunk = view.getUint32(12, true);
  const secret = await crypto.subtle.importKey('raw', key, 'HKDF', false, ['deriveKey']);
  const info = new TextEncoder().encode('gear-kv seal 1');
  const aes = await crypto.subtle.deriveKey(
    { name: 'HKDF', hash: 'SHA-256', salt: header.slice(16, 48), info },
    secret,
    { name: 'AES-GCM', length: 256 },
    false,
    ['decrypt'],
  );
  const pieces: ArrayBuffer[] = [];
  for (let at = HEADER, counter = 0; at < copy.length; at += chunk + TAG, counter++) {
    const iv = new Uint8Array(12);
    iv.set(header.subarray(48, 55));
    new DataView(iv.buffer).setUint32(7, counter);
    iv[11] = at + chunk + TAG >= copy.length ? 1 : 0;
    const params = { name: 'AES-GCM', iv, additionalData: header };
    pieces.push(await crypto.subtle.decrypt(params, aes, copy.slice(at, at + chunk + TAG)));
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

test('a seal that another implementation made is opened', async (t) => {
  const bytes = hex(VECTOR.sealed);
  const plain = new TextEncoder().encode(VECTOR.plain);
  t.deepEqual(await unsealed(bytes, VECTOR.key), plain);
  t.deepEqual(await unsealed(bytes, VECTOR.key.buffer), plain);
  const cryptoKey = await crypto.subtle.importKey('raw', VECTOR.key, 'HKDF', false, ['deriveKey']);
  t.deepEqual(await unsealed(bytes, cryptoKey), plain);
});

test('what is sealed is laid out as documented, at every length around a chunk', async (t) => {
  for (const length of [0, 1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 7]) {
    const bytes = someBytes(length);
    const result = await sealed(bytes);
    const chunks = Math.max(1, Math.ceil(length / CHUNK));
    t.is(result.length, HEADER + length + TAG * chunks);
    t.is(new TextDecoder().decode(result.subarray(0, 8)), 'GEARSEAL');
    t.deepEqual([...result.subarray(8, 16)], [1, 0, 0, 0, 0, 0, 4, 0]);
    t.is(result[55], 0);
    t.true(sameBits(await readByTheBook(result), bytes), `${length} bytes by the book`);
    t.true(sameBits(await unsealed(result), bytes), `${length} bytes`);
  }
});

test('the same bytes sealed twice have nothing in common', async (t) => {
  const bytes = someBytes(1000);
  const [one, two] = [await sealed(bytes), await sealed(bytes)];
  const alike = one.subarray(16).reduce((sum, byte, index) => sum + Number(byte === two[16 + index]), 0);
  t.true(alike < 40, `${alike} of ${one.length - 16} bytes are alike`);
});

test('however the bytes come in pieces', async (t) => {
  const bytes = hex(VECTOR.sealed);
  const lengths = fc.array(fc.integer({ min: 0, max: 60 }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(lengths, async (cuts) => {
      const pieces: Uint8Array[] = [];
      let rest = bytes;
      for (const cut of cuts) {
        pieces.push(rest.subarray(0, cut));
        rest = rest.subarray(cut);
      }
      const opened = await all(gear.unseal([...pieces, rest], { key: VECTOR.key }));
      return new TextDecoder().decode(opened) === VECTOR.plain;
    }),
    { numRuns: 100 },
  );
  t.pass();
});

test('every flipped bit is refused', async (t) => {
  const bytes = hex(VECTOR.sealed);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = bytes.slice();
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const error = (await t.throwsAsync(unsealed(flipped, VECTOR.key))) as gear.GearError;
    // The version is read before anything can be authenticated.
    const expected = bit >> 3 >= 8 && bit >> 3 < 12 ? 'UNSUPPORTED_VERSION' : 'KEY_MISMATCH';
    if (error.code !== expected) t.fail(`bit ${bit}: ${error.code}`);
  }
});

test('cut short, continued, reordered, dropped or repeated: refused', async (t) => {
  const bytes = hex(VECTOR.sealed);
  for (let length = 0; length < bytes.length; length++) {
    const error = (await t.throwsAsync(unsealed(bytes.subarray(0, length), VECTOR.key))) as gear.GearError;
    if (error.code !== 'KEY_MISMATCH') t.fail(`${length} bytes: ${error.code}`);
  }
  const part = (from: number, to: number) =>
    bytes.subarray(HEADER + from * 32, Math.min(HEADER + to * 32, bytes.length));
  const header = bytes.subarray(0, HEADER);
  const [first, second, last] = [part(0, 1), part(1, 2), part(2, 3)];
  const wrong: [string, Uint8Array[]][] = [
    ['continued', [bytes, Uint8Array.of(0)]],
    ['reordered', [header, second, first, last]],
    ['dropped at the start', [header, second, last]],
    ['dropped in the middle', [header, first, last]],
    ['dropped at the end', [header, first, second]],
    ['repeated', [header, first, first, second, last]],
    ['the last one repeated', [header, first, second, last, last]],
    ['the last one alone', [header, last]],
    ['no chunk at all', [header]],
  ];
  for (const [what, pieces] of wrong) {
    const error = (await t.throwsAsync(
      all(gear.unseal(pieces, { key: VECTOR.key })),
      undefined,
      what,
    )) as gear.GearError;
    t.is(error.code, 'KEY_MISMATCH', what);
  }
  const again = await sealed(someBytes(40));
  await rejects(t, 'KEY_MISMATCH', () => all(gear.unseal([again.subarray(0, HEADER), first], { key })), /key/);
});

test('another key, and what is not sealed', async (t) => {
  const bytes = await sealed(someBytes(100));
  await rejects(t, 'KEY_MISMATCH', () => unsealed(bytes, otherKey), /another one/);
  await rejects(t, 'KEY_MISMATCH', () => unsealed(someBytes(100)), /not sealed/);
  await rejects(t, 'KEY_MISMATCH', () => unsealed(new Uint8Array()), /not sealed/);
});

test('a chunk is held at a time', async (t) => {
  let taken = 0;
  const source = (function* () {
    for (; taken < 64; taken++) yield someBytes(CHUNK);
  })();
  const reader = gear.unseal(gear.seal(source, { key }), { key }).getReader();
  await reader.read();
  t.true(taken <= 4, `${taken} chunks were read for the first`);
  await reader.cancel();
  t.true(taken <= 4);
});

test('a signal stops it with its reason', async (t) => {
  const stop = new AbortController();
  const never: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }),
  };
  const reading = all(gear.seal(never, { key, signal: stop.signal }));
  const reason = new Error('enough');
  stop.abort(reason);
  t.is(await t.throwsAsync(reading), reason);
});

test('what is no key is refused, and never shown', async (t) => {
  const aes = await crypto.subtle.generateKey({ name: 'AES-GCM', length: 256 }, false, ['encrypt', 'decrypt']);
  const wrong: [unknown, RegExp][] = [
    [undefined, /undefined/],
    ['correct horse battery staple', /a string;.*32 random bytes/],
    [new Uint8Array(16), /16 bytes.*32 random bytes/],
    [new Uint8Array(0), /0 bytes/],
    [7, /7/],
    [aes, /AES-GCM.*HKDF/],
  ];
  const cache = filled();
  for (const [given, message] of wrong) {
    const options = { key: given as gear.SealKey };
    refuses(t, 'INVALID_OPTION', () => gear.seal([], options), message);
    refuses(t, 'INVALID_OPTION', () => gear.unseal([], options), message);
    if (given === undefined) continue;
    refuses(t, 'INVALID_OPTION', () => cache.toStream(options), message);
    await rejects(t, 'INVALID_OPTION', () => gear.GearCache.fromStream([], options), message);
  }
  const told = t.throws(() => gear.seal([], { key: 'correct horse' as never })) as Error;
  t.notRegex(told.message, /horse/);
  refuses(t, 'INVALID_OPTION', () => gear.seal([], { key, kee: 1 } as never), /kee/);
  refuses(t, 'INVALID_OPTION', () => gear.seal([], undefined as never), /options of seal/);
});

const numbers = kvNumbers({ heads: 2, tokens: 100, headDim: 32 });

function filled(): gear.GearCache {
  const cache = new gear.GearCache({ layers: 2, kvHeads: 2, headDim: 32 });
  for (const layer of [0, 1]) cache.append(layer, numbers, numbers);
  return cache;
}

test('a cache is sealed on its way out and opened on its way in', async (t) => {
  const cache = filled();
  const about = { model: 'm', tokenIds: Uint32Array.of(1, 2, 3) };
  const bytes = await all(cache.toStream({ key, about }));
  t.true(sameBits(await unsealed(bytes), cache.toBytes(about)));
  const restored = await gear.GearCache.fromStream([bytes], { key });
  t.true(sameBits(restored.toBytes(about), cache.toBytes(about)));
  t.deepEqual(restored.about, about);
  const frozen = await cache.freeze();
  const again = await gear.FrozenCache.fromStream(frozen.toStream({ key }), { key });
  t.true(sameBits(again.toBytes(), frozen.toBytes()));
});

test('sealed without a key, plain with one: both say so', async (t) => {
  const cache = filled();
  const frozen = await cache.freeze();
  const bytes = await all(cache.toStream({ key }));
  const byteByByte = Array.from(bytes, (byte) => Uint8Array.of(byte));
  for (const source of [[bytes], byteByByte]) {
    await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.fromStream(source), /is sealed; pass the key/);
    await rejects(t, 'KEY_MISMATCH', () => gear.FrozenCache.fromStream(source), /is sealed; pass the key/);
    await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.fromStream(source, { key: otherKey }), /another one/);
  }
  refuses(t, 'KEY_MISMATCH', () => gear.GearCache.fromBytes(bytes), /is sealed/);
  refuses(t, 'KEY_MISMATCH', () => gear.FrozenCache.fromBytes(bytes), /is sealed/);
  await rejects(t, 'KEY_MISMATCH', () => gear.readAbout(bytes), /is sealed/);
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.fromStream([cache.toBytes()], { key }), /not sealed/);
  await rejects(t, 'KEY_MISMATCH', () => gear.FrozenCache.fromStream([frozen.toBytes()], { key }), /not sealed/);
  const short = bytes.subarray(0, bytes.length - 1);
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.fromStream([short], { key }));
});
