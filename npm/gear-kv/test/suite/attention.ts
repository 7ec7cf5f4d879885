// softmax(q Kᵀ) V in double precision and in the plainest way, to hold the compressed one against.

export interface AttentionCase {
  batch: number;
  kvHeads: number;
  queryHeads: number;
  tokens: number;
  queries: number;
  headDim: number;
  scale?: number;
  causal?: boolean;
  window?: number;
  softcap?: number;
}

export function attention(q: Float32Array, k: Float32Array, v: Float32Array, sizes: AttentionCase): Float32Array {
  const { batch, kvHeads, queryHeads, tokens, queries, headDim, causal = true, window, softcap } = sizes;
  const scale = sizes.scale ?? 1 / Math.sqrt(headDim);
  const out = new Float32Array(q.length);
  for (let item = 0; item < batch; item++) {
    for (let head = 0; head < queryHeads; head++) {
      const kvHead = Math.floor((head * kvHeads) / queryHeads);
      const cached = (item * kvHeads + kvHead) * tokens * headDim;
      for (let query = 0; query < queries; query++) {
        const at = ((item * queryHeads + head) * queries + query) * headDim;
        const end = causal ? tokens - queries + query + 1 : tokens;
        const first = window === undefined ? 0 : Math.max(0, end - window);
        const scores: number[] = [];
        for (let token = first; token < end; token++) {
          let score = 0;
          for (let channel = 0; channel < headDim; channel++) {
            score += (q[at + channel] ?? 0) * (k[cached + token * headDim + channel] ?? 0);
          }
          score *= scale;
          scores.push(softcap === undefined ? score : softcap * Math.tanh(score / softcap));
        }
        const most = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - most));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        for (let channel = 0; channel < headDim; channel++) {
          let sum = 0;
          weights.forEach((weight, index) => {
            sum += weight * (v[cached + (first + index) * headDim + channel] ?? 0);
          });
          out[at + channel] = sum / total;
        }
      }
    }
  }
  return out;
}
