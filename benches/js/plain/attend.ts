/** What a JavaScript runtime does without this package: attention over float32 arrays, one query, written as plainly as it is fast. */
export function attendFloat32(
  key: Float32Array,
  value: Float32Array,
  query: Float32Array,
  { kvHeads, queryHeads, tokens, headDim }: { kvHeads: number; queryHeads: number; tokens: number; headDim: number },
): Float32Array {
  const out = new Float32Array(queryHeads * headDim);
  const weights = new Float32Array(tokens);
  const scale = 1 / Math.sqrt(headDim);
  const sharing = queryHeads / kvHeads;
  for (let head = 0; head < queryHeads; head++) {
    const plane = Math.floor(head / sharing) * tokens * headDim;
    const q = head * headDim;
    let largest = Number.NEGATIVE_INFINITY;
    for (let token = 0; token < tokens; token++) {
      const at = plane + token * headDim;
      let dot = 0;
      for (let d = 0; d < headDim; d++) dot += (query[q + d] as number) * (key[at + d] as number);
      weights[token] = dot * scale;
      if (dot * scale > largest) largest = dot * scale;
    }
    let sum = 0;
    for (let token = 0; token < tokens; token++) {
      const weight = Math.exp((weights[token] as number) - largest);
      sum += weight;
      const at = plane + token * headDim;
      for (let d = 0; d < headDim; d++) out[q + d] = (out[q + d] as number) + weight * (value[at + d] as number);
    }
    for (let d = 0; d < headDim; d++) out[q + d] = (out[q + d] as number) / sum;
  }
  return out;
}
