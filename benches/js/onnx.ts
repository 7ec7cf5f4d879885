// Attention on float32 by ONNX Runtime, one thread, on the same arrays as everything else. Models: onnx/models.py.

import { fileURLToPath } from 'node:url';
import type { LayerShape } from './data.js';
import { peerFolder, requireFrom } from './peers.js';

type Tensor = object;
type Session = { run(feeds: Record<string, Tensor>, fetches: Record<string, Tensor>): Promise<unknown> };

/** The part of onnxruntime-node that is used here. */
interface OnnxRuntime {
  Tensor: new (type: 'float32' | 'int32', data: Float32Array | Int32Array, shape: number[]) => Tensor;
  InferenceSession: { create(path: string, options: object): Promise<Session> };
}

/** K, V and queries of one decoding step, and where the result goes. */
export interface Step extends LayerShape {
  key: Float32Array;
  value: Float32Array;
  query: Float32Array;
  out: Float32Array;
}

/** Loads ONNX Runtime, which is installed on first use. */
export function onnxRuntime(): OnnxRuntime {
  return requireFrom(peerFolder('onnxruntime-node'))('onnxruntime-node') as OnnxRuntime;
}

function session({ InferenceSession }: OnnxRuntime, model: string): Promise<Session> {
  return InferenceSession.create(fileURLToPath(new URL(`./onnx/${model}.onnx`, import.meta.url)), {
    executionProviders: ['cpu'],
    executionMode: 'sequential',
    intraOpNumThreads: 1,
    interOpNumThreads: 1,
  });
}

/** ONNX's operator `Attention`. */
export async function attention(ort: OnnxRuntime, step: Step): Promise<() => Promise<unknown>> {
  const { kvHeads, queryHeads, tokens, headDim, key, value, query, out } = step;
  const made = await session(ort, 'attention');
  const floats = (x: Float32Array, heads: number, n: number): Tensor =>
    new ort.Tensor('float32', x, [1, heads, n, headDim]);
  const feeds = {
    query: floats(query, queryHeads, 1),
    key: floats(key, kvHeads, tokens),
    value: floats(value, kvHeads, tokens),
  };
  const fetches = { out: floats(out, queryHeads, 1) };
  return () => made.run(feeds, fetches);
}

/**
 * Its own `GroupQueryAttention`: writes the newest token in its place, past and present being the same memory, and attends. The binding copies what comes out
 * into new arrays all the same, keys and values too, and an operator without these as results does not run.
 */
export async function groupQueryAttention(ort: OnnxRuntime, step: Step): Promise<() => Promise<unknown>> {
  const { kvHeads, queryHeads, tokens, headDim, key, value, query, out } = step;
  const made = await session(ort, `group-query-attention-${queryHeads}-${kvHeads}`);
  const [pastKey, pastValue] = [key, value].map((x) => new ort.Tensor('float32', x, [1, kvHeads, tokens, headDim]));
  const newest = (x: Float32Array): Tensor => {
    const token = new Float32Array(kvHeads * headDim);
    for (let head = 0; head < kvHeads; head++) {
      const end = (head + 1) * tokens * headDim;
      token.set(x.subarray(end - headDim, end), head * headDim);
    }
    return new ort.Tensor('float32', token, [1, 1, token.length]);
  };
  const feeds = {
    query: new ort.Tensor('float32', query, [1, 1, query.length]),
    key: newest(key),
    value: newest(value),
    past_key: pastKey as Tensor,
    past_value: pastValue as Tensor,
    last: new ort.Tensor('int32', Int32Array.of(tokens - 1), [1]),
    total: new ort.Tensor('int32', Int32Array.of(tokens), []),
  };
  const fetches = {
    out: new ort.Tensor('float32', out, [1, 1, out.length]),
    present_key: pastKey as Tensor,
    present_value: pastValue as Tensor,
  };
  return () => made.run(feeds, fetches);
}
