/** One layer of a model, as it attends to `tokens` tokens. */
export interface LayerShape {
  kvHeads: number;
  queryHeads: number;
  tokens: number;
  headDim: number;
}

/** Pseudorandom numbers from −1 to 1, the same in every run. */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

/** `[heads, tokens, headDim]`: roughly normal, with channels of different strength, as keys have. */
export function layer(
  { kvHeads, tokens, headDim }: Pick<LayerShape, 'kvHeads' | 'tokens' | 'headDim'>,
  seed = 1,
): Float32Array {
  const next = numbers(seed);
  const x = new Float32Array(kvHeads * tokens * headDim);
  for (let i = 0; i < x.length; i++) {
    const channel = i % headDim;
    const strength = channel % 31 === 5 ? 6 : 0.3 + channel / headDim;
    x[i] = (next() + next() + next()) * strength;
  }
  return x;
}

/** Queries of one position. */
export function queryOf({ queryHeads, headDim }: Pick<LayerShape, 'queryHeads' | 'headDim'>): Float32Array {
  const next = numbers(2);
  return Float32Array.from({ length: queryHeads * headDim }, () => next() * 0.3);
}
