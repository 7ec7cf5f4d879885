// 4-bit quantization as a JavaScript program would write it: each channel has a scale and a smallest value for every 64 tokens of a head
// (KIVI's grouping of keys), two codes to a byte. Loops go along memory.

const GROUP = 64;
const LEVELS = 15;

export interface Sizes {
  heads: number;
  tokens: number;
  headDim: number;
}

/** Codes, scales and smallest values of `[heads, tokens, headDim]`. */
export interface Quantized extends Sizes {
  codes: Uint8Array;
  scales: Float32Array;
  smallest: Float32Array;
}

export function quantize(x: Float32Array, { heads, tokens, headDim }: Sizes): Quantized {
  const groups = Math.ceil(tokens / GROUP);
  const codes = new Uint8Array(x.length / 2);
  const scales = new Float32Array(heads * groups * headDim);
  const smallest = new Float32Array(scales.length).fill(Number.POSITIVE_INFINITY);
  const largest = new Float32Array(scales.length).fill(Number.NEGATIVE_INFINITY);
  for (let row = 0; row < heads * tokens; row++) {
    const group = groupOf(row, tokens, groups) * headDim;
    for (let d = 0; d < headDim; d++) {
      const value = x[row * headDim + d] as number;
      if (value < (smallest[group + d] as number)) smallest[group + d] = value;
      if (value > (largest[group + d] as number)) largest[group + d] = value;
    }
  }
  for (let i = 0; i < scales.length; i++) scales[i] = ((largest[i] as number) - (smallest[i] as number)) / LEVELS;
  for (let row = 0; row < heads * tokens; row++) {
    const group = groupOf(row, tokens, groups) * headDim;
    const at = row * headDim;
    for (let d = 0; d < headDim; d += 2) {
      const low = ((x[at + d] as number) - (smallest[group + d] as number)) / (scales[group + d] as number);
      const high =
        ((x[at + d + 1] as number) - (smallest[group + d + 1] as number)) / (scales[group + d + 1] as number);
      // Not a number where all values are the same; that becomes 0.
      codes[(at + d) >> 1] = (low + 0.5) | (((high + 0.5) | 0) << 4);
    }
  }
  return { heads, tokens, headDim, codes, scales, smallest };
}

export function dequantize({ tokens, heads, headDim, codes, scales, smallest }: Quantized, out: Float32Array): void {
  const groups = Math.ceil(tokens / GROUP);
  for (let row = 0; row < heads * tokens; row++) {
    const group = groupOf(row, tokens, groups) * headDim;
    const at = row * headDim;
    for (let d = 0; d < headDim; d += 2) {
      const both = codes[(at + d) >> 1] as number;
      out[at + d] = (both & LEVELS) * (scales[group + d] as number) + (smallest[group + d] as number);
      out[at + d + 1] = (both >> 4) * (scales[group + d + 1] as number) + (smallest[group + d + 1] as number);
    }
  }
}

function groupOf(row: number, tokens: number, groups: number): number {
  return Math.floor(row / tokens) * groups + Math.floor((row % tokens) / GROUP);
}
