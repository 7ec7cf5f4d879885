import test from 'ava';
import { kvNumbers } from './numbers.js';
import { environment, gear, hasBothBackends, otherBackend, refuses, rejects } from './support.js';

const shape = { batch: 2, heads: 2, tokens: 10, headDim: 8 };
const numbers = kvNumbers(shape);
const options = { shape, role: 'key' } as const;
const loose = options as Record<string, unknown>;
const compressLoosely = (data: unknown, extra: object): unknown =>
  gear.compressSync(data as Float32Array, { ...loose, ...extra } as never);

test('SHAPE_MISMATCH: a length that does not fit', async (t) => {
  const short = numbers.subarray(1);
  refuses(
    t,
    'SHAPE_MISMATCH',
    () => gear.compressSync(short, options),
    /319 elements; expected 320 = batch 2 × heads 2/,
  );
  await rejects(t, 'SHAPE_MISMATCH', () => gear.compress(short, options), /319/);
  const packed = gear.compressSync(numbers, options);
  refuses(t, 'SHAPE_MISMATCH', () => gear.appendSync(packed, short), /multiple of 32/);
  await rejects(t, 'SHAPE_MISMATCH', () => gear.append(packed, short), /multiple of 32/);
  refuses(
    t,
    'SHAPE_MISMATCH',
    () => gear.decompressSync(packed, { out: new Float32Array(7) }),
    /7 elements; expected 320/,
  );
  await rejects(t, 'SHAPE_MISMATCH', () => gear.decompress(packed, { out: new Float32Array(7) }), /7/);
});

test('SHAPE_MISMATCH: what is no shape', (t) => {
  for (const wrong of [undefined, null, 'text', 7]) {
    refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(numbers, { shape: wrong }), /heads, tokens, headDim/);
  }
  for (const wrong of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '2', 2 ** 32, 2n, null]) {
    refuses(
      t,
      'SHAPE_MISMATCH',
      () => compressLoosely(numbers, { shape: { ...shape, heads: wrong } }),
      /shape\.heads is/,
    );
    refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(numbers, { shape: { ...shape, headDim: wrong } }), /headDim/);
    refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(numbers, { shape: { ...shape, batch: wrong } }), /shape\.batch/);
    if (wrong !== 0) {
      refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(numbers, { shape: { ...shape, tokens: wrong } }), /tokens/);
    }
  }
  const huge = { batch: 65535, heads: 65535, tokens: 65535, headDim: 65535 };
  refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(numbers, { shape: huge }));
});

test('SHAPE_MISMATCH: data that is no array of numbers', (t) => {
  for (const wrong of [
    undefined,
    null,
    [1, 2],
    'text',
    {},
    numbers.buffer,
    new Float64Array(320),
    new Int16Array(320),
  ]) {
    refuses(t, 'SHAPE_MISMATCH', () => compressLoosely(wrong, {}), /Float32Array/);
  }
  refuses(t, 'SHAPE_MISMATCH', () => gear.CompressedTensor.fromBytes('text' as never), /Uint8Array/);
  refuses(t, 'SHAPE_MISMATCH', () => gear.GearCache.fromBytes(undefined as never), /Uint8Array/);
});

test('INVALID_OPTION: every option that is wrong is named', (t) => {
  const wrong: [object, RegExp][] = [
    [{ preset: 'gear-5' }, /gear-5/],
    [{ preset: '' }, /preset/],
    [{ bits: 5 }, /bits/],
    [{ bits: -1 }, /bits|-1/],
    [{ bits: 1e40 }, /./],
    [{ bits: 2.5 }, /./],
    [{ bits: '4' }, /./],
    [{ bits: Number.NaN }, /bits is NaN/],
    [{ rank: Number.POSITIVE_INFINITY }, /rank is Infinity/],
    [{ rank: null }, /rank is null/],
    [{ seed: () => 1 }, /seed is a function/],
    [{ seed: 1n }, /seed is 1/],
    [{ threads: {} }, /threads is an object/],
    [{ meanBits: 0.5 }, /meanBits is 0.5; expected 0, or 1 to 8/],
    [{ meanBits: 8.5 }, /meanBits is 8.5/],
    [{ meanBits: -1 }, /meanBits is -1/],
    [{ meanBits: Number.NaN }, /meanBits is NaN/],
    [{ meanBits: '3' }, /./],
    [{ backbone: 'tilted' }, /tilted/],
    [{ range: 'widest' }, /widest/],
    [{ scaleBits: 4 }, /scaleBits is 4/],
    [{ factorBits: 2 }, /factorBits is 2/],
    [{ groupSize: 0 }, /groupSize/],
    [{ rank: 100000 }, /rank/],
    [{ powerIterations: 0 }, /powerIterations/],
    [{ sparsity: 2 }, /sparsity/],
    [{ sparsity: -0.1 }, /sparsity/],
    [{ sinks: 1e9 }, /sinks/],
    [{ bufferTokens: 0 }, /bufferTokens/],
    [{ nonFinite: 'ignore' }, /./],
    [{ device: 'tpu' }, /device is 'tpu'/],
    [{ backend: 'gpu' }, /backend is 'gpu'/],
    [{ role: 'query' }, /role is 'query'/],
    [{ role: undefined }, /role is undefined/],
    [{ grupSize: 64 }, /grupSize/],
    [{ preset: 'float16', bits: 4 }, /bits/],
  ];
  for (const [extra, message] of wrong) {
    refuses(t, 'INVALID_OPTION', () => compressLoosely(numbers, extra), message);
  }
  refuses(t, 'INVALID_OPTION', () => gear.compressSync(numbers, undefined as never), /expected an object/);
});

test('INVALID_OPTION: the same for the other calls', async (t) => {
  const packed = gear.compressSync(numbers, options);
  await rejects(t, 'INVALID_OPTION', () => gear.compress(numbers, { ...options, preset: 'x' } as never), /x/);
  await rejects(t, 'INVALID_OPTION', () => gear.compress(numbers, { ...options, signal: {} } as never), /AbortSignal/);
  refuses(t, 'INVALID_OPTION', () => gear.decompressSync(packed, { into: numbers } as never), /into/);
  await rejects(t, 'INVALID_OPTION', () => gear.decompress(packed, { outt: numbers } as never), /outt/);
  await rejects(t, 'INVALID_OPTION', () => gear.append(packed, numbers, { sgnal: 1 } as never), /sgnal/);
  refuses(t, 'INVALID_OPTION', () => gear.decompressSync({} as never), /not a CompressedTensor/);
  refuses(t, 'INVALID_OPTION', () => gear.appendSync(undefined as never, numbers), /not a CompressedTensor/);
  const cache = new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 8 });
  cache.append(0, numbers.subarray(0, 160), numbers.subarray(0, 160));
  const query = numbers.subarray(0, 32);
  for (const wrong of [
    { scale: Number.NaN },
    { scale: '1' },
    { causal: 1 },
    { window: 0 },
    { window: 1.5 },
    { softcap: 0 },
    { softcap: -1 },
    { windw: 3 },
    { window: 3, causal: false },
  ]) {
    refuses(t, 'INVALID_OPTION', () => cache.attend(0, query, { queryHeads: 4, ...wrong } as never));
  }
  refuses(t, 'INVALID_OPTION', () => cache.attend(0, query, undefined as never), /expected an object/);
  refuses(
    t,
    'INVALID_OPTION',
    () => new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 8, key: { bit: 4 } } as never),
    /bit/,
  );
  refuses(
    t,
    'INVALID_OPTION',
    () => new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 8, kvHead: 2 } as never),
    /kvHead/,
  );
  refuses(
    t,
    'INVALID_OPTION',
    () => new gear.GearCache({ layers: 1, kvHeads: 2, headDim: 8, value: 4 } as never),
    /value is 4/,
  );
});

test('SHAPE_MISMATCH: layers and heads of a cache', (t) => {
  for (const wrong of [0, -1, 1.5, '3', undefined]) {
    refuses(
      t,
      'SHAPE_MISMATCH',
      () => new gear.GearCache({ layers: wrong, kvHeads: 2, headDim: 8 } as never),
      /layers/,
    );
    refuses(
      t,
      'SHAPE_MISMATCH',
      () => new gear.GearCache({ layers: 1, kvHeads: wrong, headDim: 8 } as never),
      /kvHeads/,
    );
  }
  refuses(t, 'SHAPE_MISMATCH', () => new gear.GearCache({ layers: 2 ** 32 - 1, kvHeads: 2, headDim: 8 }), /layers/);
  const cache = new gear.GearCache({ layers: 2, kvHeads: 2, headDim: 8 });
  const half = numbers.subarray(0, 160);
  for (const wrong of [2, -1, 0.5, Number.NaN, '0']) {
    refuses(t, 'SHAPE_MISMATCH', () => cache.append(wrong as number, half, half), /layer is/);
    refuses(t, 'SHAPE_MISMATCH', () => cache.attend(wrong as number, half, { queryHeads: 2 }), /layer is/);
    refuses(t, 'SHAPE_MISMATCH', () => cache.key(wrong as number), /layer is/);
    refuses(t, 'SHAPE_MISMATCH', () => cache.layerTokens(wrong as number), /layer is/);
  }
  cache.append(0, half, half);
  refuses(t, 'SHAPE_MISMATCH', () => cache.append(0, half.subarray(1), half), /multiple of 16/);
  refuses(t, 'SHAPE_MISMATCH', () => cache.attend(0, half.subarray(1, 25), { queryHeads: 3 }));
  refuses(t, 'SHAPE_MISMATCH', () => cache.attend(0, half.subarray(1), { queryHeads: 2 }), /query has 159/);
  refuses(
    t,
    'SHAPE_MISMATCH',
    () => cache.attend(0, half, { queryHeads: 2, out: new Float32Array(1) }),
    /expected 160/,
  );
  refuses(t, 'SHAPE_MISMATCH', () => cache.attend(1, half.subarray(0, 16), { queryHeads: 2 }));
});

test('NOT_FINITE: the first bad number is named', async (t) => {
  const bad = numbers.slice();
  // [batch 1, head 0, token 3, channel 5] of [2, 2, 10, 8]
  bad[((1 * 2 + 0) * 10 + 3) * 8 + 5] = Number.NaN;
  bad[319] = Number.NEGATIVE_INFINITY;
  const position = /batch 1, head 0, token 3, channel 5.*NaN/;
  refuses(t, 'NOT_FINITE', () => gear.compressSync(bad, options), position);
  await rejects(t, 'NOT_FINITE', () => gear.compress(bad, options), position);
  refuses(t, 'NOT_FINITE', () => gear.compressSync(bad, { ...options, preset: 'float32' }), position);
  const bits = new Uint16Array(320);
  bits[9] = 0xfc00;
  refuses(t, 'NOT_FINITE', () => gear.compressSync(bits, options), /batch 0, head 0, token 1, channel 1.*inf/);
  const packed = gear.compressSync(numbers, options);
  await rejects(t, 'NOT_FINITE', () => gear.append(packed, bad), position);
  const cache = new gear.GearCache({ layers: 1, batch: 2, kvHeads: 2, headDim: 8 });
  refuses(t, 'NOT_FINITE', () => cache.append(0, bad, numbers), position);
  cache.append(0, numbers, numbers);
  refuses(t, 'NOT_FINITE', () => cache.attend(0, bad, { queryHeads: 2 }), /NaN/);

  const mended = gear.decompressSync(gear.compressSync(bad, { ...options, preset: 'float16', nonFinite: 'replace' }));
  t.is(mended[((1 * 2 + 0) * 10 + 3) * 8 + 5], 0);
  t.is(mended[319], -65504);
});

test('OUT_OF_RANGE: a number that float16 cannot hold is named', (t) => {
  const large = numbers.slice();
  large[8] = 70000;
  refuses(t, 'OUT_OF_RANGE', () => gear.compressSync(large, options), /token 1, channel 0.*70000/);
  t.is(gear.decompressSync(gear.compressSync(large, { ...options, preset: 'float32' }))[8], 70000);
});

test('DISPOSED: nothing works afterwards, and disposing again does nothing', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const fork = packed.fork();
  packed.dispose();
  packed.dispose();
  const uses: (() => unknown)[] = [
    () => packed.shape,
    () => packed.byteLength,
    () => packed.options,
    () => packed.fork(),
    () => packed.truncate(1),
    () => packed.clear(),
    () => packed.toBytes(),
    () => gear.decompressSync(packed),
    () => gear.appendSync(packed, numbers),
  ];
  for (const use of uses) refuses(t, 'DISPOSED', use, /disposed/);
  await rejects(t, 'DISPOSED', () => gear.decompress(packed));
  await rejects(t, 'DISPOSED', () => gear.append(packed, numbers));
  t.is(gear.decompressSync(fork).length, 320);
  t.deepEqual(JSON.parse(JSON.stringify(packed)), { disposed: true });

  const cache = new gear.GearCache({ layers: 1, batch: 2, kvHeads: 2, headDim: 8 });
  cache[Symbol.dispose]();
  cache.dispose();
  const cacheUses: (() => unknown)[] = [
    () => cache.append(0, numbers, numbers),
    () => cache.attend(0, numbers, { queryHeads: 2 }),
    () => cache.tokens,
    () => cache.byteLength,
    () => cache.sharedByteLength,
    () => cache.stats(),
    () => cache.key(0),
    () => cache.fork(),
    () => cache.truncate(0),
    () => cache.reorder([0]),
    () => cache.shift({ drop: 0 }),
    () => cache.clear(),
    () => cache.toBytes(),
    () => cache.toStream(),
  ];
  for (const use of cacheUses) refuses(t, 'DISPOSED', use, /disposed/);
  await rejects(t, 'DISPOSED', () => cache.save('never-written.gear'));
});

test('BACKEND_UNAVAILABLE: what this entry point or version does not have', (t) => {
  refuses(t, 'BACKEND_UNAVAILABLE', () => compressLoosely(numbers, { device: 'cuda' }), /cuda/);
  const withOther = (): unknown => compressLoosely(numbers, { backend: otherBackend });
  if (hasBothBackends) {
    t.is((withOther() as { backend: string }).backend, otherBackend);
  } else {
    refuses(t, 'BACKEND_UNAVAILABLE', withOther, new RegExp(`gear-kv/${otherBackend}`));
  }
  const here = compressLoosely(numbers, { device: 'cpu', backend: environment.backend });
  t.is((here as { backend: string }).backend, environment.backend);
});

test('a GearError is an Error, recognisable and with its cause', (t) => {
  const error = t.throws(() => gear.compressSync(numbers, { ...options, preset: 'nope' as never }));
  t.is(error?.name, 'GearError');
  t.true(error instanceof Error);
  t.true(error instanceof gear.GearError);
  t.false(new Error('other') instanceof gear.GearError);
  class Special extends gear.GearError {}
  t.true(new Special('INTERNAL', 'text') instanceof gear.GearError);
  t.false(error instanceof Special);
  t.true((error as Error & { cause?: unknown }).cause instanceof Error);
});
