import type { KvData } from '../kv-array.js';

type Numbers = Float32Array | Uint16Array;

/** Tokens `from` to `to` of `[groups, tokens, width]`; nothing is copied where that is all of it. */
export function rowsOf<Data extends Uint8Array | Numbers>(
  data: Data,
  tokens: number,
  width: number,
  from: number,
  to: number,
): Data {
  if (from === 0 && to === tokens) return data;
  const groups = tokens === 0 ? 0 : data.length / (tokens * width);
  const size = (to - from) * width;
  const rows = new (data.constructor as new (length: number) => Data)(groups * size);
  for (let group = 0; group < groups; group++) {
    const start = (group * tokens + from) * width;
    rows.set(data.subarray(start, start + size) as never, group * size);
  }
  return rows;
}

/** {@link rowsOf} for numbers of a cache. */
export function kvRows(data: KvData, tokens: number, width: number, from: number): KvData {
  return rowsOf(data as Numbers, tokens, width, from, tokens);
}

const LARGEST = 0x477fe000;
const SMALLEST_NORMAL = 0x38800000;
/** 0.5, whose last bit is worth as much as the last one of a subnormal in float16. */
const HALF = 0x3f000000;

/** Bits of IEEE binary16, rounded to nearest, ties to even; what is too large becomes the largest. */
export function float16Bits(values: Float32Array): Uint16Array {
  const native = (globalThis as { Float16Array?: new (values: Float32Array) => Uint16Array }).Float16Array;
  if (native === undefined) return narrowed(values);
  const bits = new Uint16Array(new native(values).buffer);
  for (let index = 0; index < bits.length; index++) {
    // What decompresses to beyond the largest number is an error of compression, not an infinity.
    if (((bits[index] as number) & 0x7fff) === 0x7c00) bits[index] = (bits[index] as number) - 1;
  }
  return bits;
}

/** {@link float16Bits} where the runtime has no `Float16Array`. */
export function narrowed(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  const cell = new Float32Array(1);
  const cellBits = new Uint32Array(cell.buffer);
  for (let index = 0; index < out.length; index++) {
    const all = bits[index] as number;
    const size = all & 0x7fffffff;
    let half: number;
    if (size >= SMALLEST_NORMAL) {
      const held = Math.min(size, LARGEST);
      half = (held - 0x38000000 + 0xfff + ((held >>> 13) & 1)) >>> 13;
    } else {
      cellBits[0] = size;
      cell[0] = (cell[0] as number) + 0.5;
      half = (cellBits[0] as number) - HALF;
    }
    out[index] = ((all >>> 16) & 0x8000) | half;
  }
  return out;
}
