import test from 'ava';
import { halfBits, kvNumbers } from './numbers.js';
import { gear, refuses, rejects, sameBits } from './support.js';

const shape = { heads: 2, tokens: 70, headDim: 64 };
const numbers = kvNumbers(shape);
const options = { shape, role: 'key', preset: 'gear-4' } as const;
const expected = gear.compressSync(numbers, options).toBytes();

const same = (data: Parameters<typeof gear.compressSync>[0]): boolean =>
  sameBits(gear.compressSync(data, options).toBytes(), expected);

test('float16 bits and float32 of the same numbers give the same bytes', async (t) => {
  t.true(same(halfBits(numbers)));
  t.true(sameBits((await gear.compress(halfBits(numbers), options)).toBytes(), expected));
});

test('a Float16Array is taken where the runtime has one', (t) => {
  const { Float16Array: Half } = globalThis as unknown as {
    Float16Array?: new (numbers: Float32Array) => Parameters<typeof gear.compressSync>[0];
  };
  if (Half === undefined) {
    t.pass('this runtime has no Float16Array');
    return;
  }
  t.true(same(new Half(numbers)));
});

test('a part of a larger array is read where it lies', (t) => {
  const larger = new Float32Array(numbers.length + 9).fill(1e30);
  larger.set(numbers, 3);
  t.true(same(larger.subarray(3, 3 + numbers.length)));
  const bits = new Uint16Array(numbers.length + 9).fill(0x7bff);
  bits.set(halfBits(numbers), 5);
  t.true(same(bits.subarray(5, 5 + numbers.length)));
});

test('shared memory', async (t) => {
  if (typeof SharedArrayBuffer === 'undefined') {
    t.pass('this page is not cross-origin isolated');
    return;
  }
  const shared = new Float32Array(new SharedArrayBuffer(numbers.byteLength));
  shared.set(numbers);
  t.true(same(shared));
  t.true(sameBits((await gear.compress(shared, options)).toBytes(), expected));
  const bytes = new Uint8Array(new SharedArrayBuffer(expected.byteLength));
  bytes.set(expected);
  const restored = gear.CompressedTensor.fromBytes(bytes);
  const out = new Float32Array(new SharedArrayBuffer(numbers.byteLength));
  gear.decompressSync(restored, { out });
  t.true(sameBits(out, gear.decompressSync(restored)));
});

test('a resizable buffer', (t) => {
  const Resizable = ArrayBuffer as unknown as new (length: number, options: { maxByteLength: number }) => ArrayBuffer;
  const buffer = new Resizable(numbers.byteLength, { maxByteLength: 2 * numbers.byteLength });
  const view = new Float32Array(buffer);
  view.set(numbers);
  t.true(same(view));
});

test('a buffer that was moved away is named as such', async (t) => {
  const moved = numbers.slice();
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  refuses(t, 'SHAPE_MISMATCH', () => gear.compressSync(moved, options), /moved away/);
  await rejects(t, 'SHAPE_MISMATCH', () => gear.compress(moved, options), /moved away/);
  const bytes = expected.slice();
  structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
  refuses(t, 'SHAPE_MISMATCH', () => gear.CompressedTensor.fromBytes(bytes), /moved away/);
  const out = new Float32Array(numbers.length);
  structuredClone(out.buffer, { transfer: [out.buffer] });
  const packed = gear.compressSync(numbers, options);
  refuses(t, 'SHAPE_MISMATCH', () => gear.decompressSync(packed, { out }), /moved away/);
});

test('an array may be moved or changed as soon as compress or append has been called', async (t) => {
  const moved = numbers.slice();
  const first = gear.compress(moved, options);
  structuredClone(moved.buffer, { transfer: [moved.buffer] });
  const changed = numbers.slice();
  const second = gear.compress(changed, options);
  changed.fill(0);
  t.true(sameBits((await first).toBytes(), expected));
  t.true(sameBits((await second).toBytes(), expected));

  const packed = await first;
  const other = await second;
  gear.appendSync(packed, numbers);
  const appended = numbers.slice();
  const appending = gear.append(other, appended);
  structuredClone(appended.buffer, { transfer: [appended.buffer] });
  await appending;
  t.true(sameBits(packed.toBytes(), other.toBytes()));
});

test('an out that is moved away during the work is an error, not a crash', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const out = new Float32Array(numbers.length);
  const work = gear.decompress(packed, { out });
  structuredClone(out.buffer, { transfer: [out.buffer] });
  await rejects(t, 'SHAPE_MISMATCH', () => work, /moved away/);
});

test('the input is not changed', (t) => {
  const before = numbers.slice();
  gear.compressSync(numbers, options);
  t.true(sameBits(numbers, before));
});

test('results are not affected by work that comes later', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const before = gear.decompressSync(packed);
  const bytes = packed.toBytes();
  const kept = [before.slice(), bytes.slice()] as const;
  const later = gear.decompress(packed);
  gear.appendSync(packed, numbers);
  for (let i = 0; i < 20; i++) gear.compressSync(numbers, options).dispose();
  t.true(sameBits(before, kept[0]));
  t.true(sameBits(bytes, kept[1]));
  t.is((await later).length, numbers.length, 'decompress gives the tensor as it was when it was called');
});
