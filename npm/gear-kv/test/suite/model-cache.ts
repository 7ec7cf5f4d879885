// The fixture: K, V and queries of four layers of SmolLM2-135M-Instruct, and what other implementations make of them.
import { fixture } from './support.js';

export interface ModelLayer {
  name: string;
  key: Uint16Array;
  value: Uint16Array;
  query: Uint16Array;
}

export const modelShape = { heads: 3, tokens: 512, headDim: 64 };
export const modelAttention = { queryHeads: 9, scale: 1 / 8, causal: false };

/** Errors and sizes of one method on one layer. */
export interface Expected {
  key_rel_fro: number;
  value_rel_fro: number;
  attn_out_rel: number;
  key_bits_per_elem: number;
  value_bits_per_elem: number;
}

export async function modelLayers(): Promise<ModelLayer[]> {
  const bytes = await fixture('kv_smollm2_135m.safetensors');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerLength = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + headerLength))) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const half = (name: string): Uint16Array => {
    const [begin, end] = header[name]?.data_offsets ?? [0, 0];
    const copy = new Uint8Array(bytes.subarray(8 + headerLength + begin, 8 + headerLength + end));
    return new Uint16Array(copy.buffer);
  };
  return [0, 10, 20, 29].map((layer) => ({
    name: `layer.${layer}`,
    key: half(`layer.${layer}.key`),
    value: half(`layer.${layer}.value`),
    query: half(`layer.${layer}.query`),
  }));
}

export async function expectedErrors(): Promise<Record<string, Record<string, Expected>>> {
  const text = new TextDecoder().decode(await fixture('expected.json'));
  return (JSON.parse(text) as { expected: Record<string, Record<string, Expected>> }).expected;
}
