import test from 'ava';
import fc from 'fast-check';
import { kvNumbers, relativeError, tokenRange } from './numbers.js';
import { gear, presets, sameBits } from './support.js';

const shapes = fc.record({
  batch: fc.integer({ min: 1, max: 3 }),
  heads: fc.integer({ min: 1, max: 3 }),
  tokens: fc.integer({ min: 0, max: 140 }),
  headDim: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 80, 96, 128)),
});
const preset = fc.constantFrom(...presets);
const role = fc.constantFrom('key' as const, 'value' as const);
const seed = fc.integer();

/** Relative error by bits; loose, since groups may be as large as the tensor and its numbers are far apart. */
const bounds: Record<number, number> = { 8: 0.03, 4: 0.3, 3: 0.5, 2: 1 };

test('any shape, preset and role: there and back, in size and error', (t) => {
  fc.assert(
    fc.property(shapes, preset, role, seed, (shape, presetName, roleName, dataSeed) => {
      const numbers = kvNumbers(shape, dataSeed);
      const packed = gear.compressSync(numbers, { shape, role: roleName, preset: presetName });
      const restored = gear.decompressSync(packed);
      const { bits, storage } = packed.options;
      const bound = storage === 'gear' ? (bounds[bits] ?? 0) : 0;
      const bytes = packed.toBytes();
      const again = gear.CompressedTensor.fromBytes(bytes);
      const parts = Object.values(packed.parts).reduce((sum, part) => sum + part, 0);
      const fine =
        restored.length === numbers.length &&
        relativeError(restored, numbers) <= bound &&
        parts === packed.byteLength &&
        sameBits(again.toBytes(), bytes) &&
        sameBits(gear.decompressSync(again), restored);
      packed.dispose();
      again.dispose();
      return fine;
    }),
    { numRuns: 150 },
  );
  t.pass();
});

test('appending in any pieces gives as many tokens, truncating any of them keeps the rest', (t) => {
  const pieces = fc.array(fc.integer({ min: 0, max: 90 }), { maxLength: 6 });
  fc.assert(
    fc.property(shapes, preset, role, pieces, fc.nat(), (shape, presetName, roleName, lengths, cut) => {
      const empty = { ...shape, tokens: 0 };
      const packed = gear.compressSync(new Float32Array(), { shape: empty, role: roleName, preset: presetName });
      const tokens = lengths.reduce((sum, length) => sum + length, 0);
      const whole = { ...shape, tokens };
      const numbers = kvNumbers(whole, cut);
      let position = 0;
      for (const length of lengths) {
        gear.appendSync(packed, tokenRange(numbers, whole, position, position + length));
        position += length;
      }
      const all = gear.decompressSync(packed);
      const kept = cut % (tokens + 1);
      packed.truncate(kept);
      const fine = packed.tokens === kept && sameBits(gear.decompressSync(packed), tokenRange(all, whole, 0, kept));
      packed.dispose();
      return fine;
    }),
    { numRuns: 80 },
  );
  t.pass();
});

const valid = [
  gear
    .compressSync(kvNumbers({ heads: 2, tokens: 70, headDim: 8 }), {
      shape: { heads: 2, tokens: 70, headDim: 8 },
      role: 'key',
      preset: 'gear-2',
    })
    .toBytes(),
  (() => {
    const cache = new gear.GearCache({ layers: 2, kvHeads: 1, headDim: 8, preset: 'paper-gear-4' });
    for (const layer of [0, 1]) {
      const numbers = kvNumbers({ heads: 1, tokens: 70, headDim: 8 });
      cache.append(layer, numbers, numbers);
    }
    return cache.toBytes();
  })(),
];

/** Bytes of nothing, or what is done to the bytes of a good container. */
const hostile = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.record({
    base: fc.nat({ max: valid.length - 1 }),
    cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    edits: fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 8 }),
    inHeader: fc.boolean(),
  }),
);

function hostileBytes(plan: typeof hostile extends fc.Arbitrary<infer Plan> ? Plan : never): Uint8Array {
  if (plan instanceof Uint8Array) return plan;
  const base = valid[plan.base] ?? new Uint8Array();
  const bytes = base.slice(0, plan.cut === null ? base.length : Math.floor(plan.cut * base.length));
  const reach = plan.inHeader ? Math.min(64, bytes.length) : bytes.length;
  for (const [at, byte] of plan.edits) if (reach > 0) bytes[at % reach] = byte;
  return bytes;
}

test('hostile bytes give a tensor, a cache or a GearError, and nothing else', (t) => {
  // INVALID_OPTION: an edit may change nothing, and then a tensor is opened as a cache.
  const tolerated = new Set(['CORRUPT_DATA', 'UNSUPPORTED_VERSION', 'INVALID_OPTION']);
  const outcome = (open: () => { dispose(): void }): boolean => {
    try {
      open().dispose();
      return true;
    } catch (error) {
      return error instanceof gear.GearError && tolerated.has(error.code);
    }
  };
  fc.assert(
    fc.property(hostile, (plan) => {
      const bytes = hostileBytes(plan);
      return outcome(() => gear.CompressedTensor.fromBytes(bytes)) && outcome(() => gear.GearCache.fromBytes(bytes));
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('options that are nonsense give a GearError, and nothing else', (t) => {
  const shape = { heads: 1, tokens: 3, headDim: 4 };
  const numbers = kvNumbers(shape);
  const names = [
    'preset',
    'bits',
    'meanBits',
    'layerBits',
    'backbone',
    'groupSize',
    'rank',
    'decodeRank',
    'rankByNeed',
    'powerIterations',
    'sparsity',
    'sinks',
    'bufferTokens',
    'seed',
    'nonFinite',
    'device',
    'extra',
  ];
  const value = fc.oneof(fc.anything(), fc.double(), fc.integer(), fc.constantFrom(0, 1, 2, 4, 8, 64));
  const options = fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 3, noNullPrototype: true });
  fc.assert(
    fc.property(options, (given) => {
      try {
        gear.compressSync(numbers, { shape, role: 'key', ...given } as never).dispose();
        return true;
      } catch (error) {
        return error instanceof gear.GearError && error.code !== 'INTERNAL';
      }
    }),
    { numRuns: 500 },
  );
  t.pass();
});
