// Numbers for the tests: made without Math.sin and its like, whose last bit differs between engines.

/** A stream of uniform numbers in [0, 1), the same everywhere (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export interface Sizes {
  batch?: number;
  heads: number;
  tokens: number;
  headDim: number;
}

/**
 * Numbers like a cache's: bell-shaped, with an offset and a width of its own for every channel, all of them
 * exactly representable in float16.
 */
export function kvNumbers({ batch = 1, heads, tokens, headDim }: Sizes, seed = 1): Float32Array {
  const next = uniform(seed);
  const data = new Float32Array(batch * heads * tokens * headDim);
  for (let plane = 0; plane < batch * heads; plane++) {
    const offsets = Array.from({ length: headDim }, () => Math.round((next() - 0.5) * 64) / 16);
    const widths = Array.from({ length: headDim }, () => 1 + Math.floor(next() * 4));
    for (let i = 0; i < tokens * headDim; i++) {
      const bell = next() + next() + next() + next() - 2;
      const channel = i % headDim;
      // Sixteenths below 16 have at most 8 significant bits.
      data[plane * tokens * headDim + i] =
        Math.round(bell * (widths[channel] ?? 1) * 16) / 16 + (offsets[channel] ?? 0);
    }
  }
  return data;
}

/** The tokens `from` to `to` of every head. */
export function tokenRange<Data extends Float32Array | Uint16Array>(
  data: Data,
  { batch = 1, heads, tokens, headDim }: Sizes,
  from: number,
  to: number,
): Data {
  const size = (to - from) * headDim;
  const part = new (data.constructor as new (length: number) => Data)(batch * heads * size);
  for (let plane = 0; plane < batch * heads; plane++) {
    const start = (plane * tokens + from) * headDim;
    part.set(data.subarray(start, start + size), plane * size);
  }
  return part;
}

/** `‖given − exact‖ / ‖exact‖`, and 0 for two empty arrays. */
export function relativeError(given: Float32Array, exact: Float32Array): number {
  if (given.length !== exact.length) throw new Error(`${given.length} elements where ${exact.length} were expected`);
  let difference = 0;
  let norm = 0;
  exact.forEach((truth, index) => {
    difference += ((given[index] ?? Number.NaN) - truth) ** 2;
    norm += truth ** 2;
  });
  if (difference === 0) return 0;
  return Math.sqrt(difference / norm);
}

/** IEEE binary16 bits as numbers. */
export function widened(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, (half) => {
    const sign = half & 0x8000 ? -1 : 1;
    const exponent = (half >> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    return sign * (1024 + fraction) * 2 ** (exponent - 25);
  });
}

/** Numbers that float16 holds exactly, as its bits. */
export function halfBits(numbers: Float32Array): Uint16Array {
  const single = new Float32Array(1);
  const bits = new Uint32Array(single.buffer);
  return Uint16Array.from(numbers, (number) => {
    single[0] = number;
    const pattern = bits[0] ?? 0;
    const sign = (pattern >>> 16) & 0x8000;
    if (number === 0) return sign;
    const exponent = ((pattern >>> 23) & 0xff) - 112;
    if (exponent < 1 || exponent > 30 || (pattern & 0x1fff) !== 0) throw new Error(`${number} is not a plain float16`);
    return sign | (exponent << 10) | ((pattern >>> 13) & 0x3ff);
  });
}

/** Lower-case hexadecimal SHA-256. */
export async function sha256(bytes: Uint8Array): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(bytes));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
