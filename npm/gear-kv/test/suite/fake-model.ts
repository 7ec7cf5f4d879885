// A model without weights, that runs as transformers.js runs one: the same calls to its cache in the same order, tensors of the same make.

/** A tensor as onnxruntime has it. Those on the fake GPU count until they are given back. */
export class OrtTensor {
  static onGpu = 0;
  /** What `data` of a tensor on the GPU is, which JavaScript cannot see. */
  #hidden: ArrayBufferView | undefined;
  #data: ArrayBufferView | undefined;
  location = 'cpu';

  constructor(
    readonly type: string,
    data: ArrayBufferView,
    readonly dims: number[],
  ) {
    const size = dims.reduce((product, dim) => product * dim, 1);
    if ((data as Float32Array).length !== size) throw new Error(`${size} numbers in [${dims}] and not in the array`);
    if (data.byteLength !== data.buffer.byteLength) throw new Error('onnxruntime-node ignores byteOffset');
    this.#data = data;
  }

  static gpu(type: string, data: ArrayBufferView, dims: number[]): OrtTensor {
    const tensor = new OrtTensor(type, data, dims);
    tensor.#hidden = data;
    tensor.#data = undefined;
    tensor.location = 'gpu-buffer';
    OrtTensor.onGpu += 1;
    return tensor;
  }

  get data(): ArrayBufferView {
    if (this.#data === undefined) throw new Error(`the data is at ${this.location}; use getData()`);
    return this.#data;
  }

  /** What the fake model reads, which is where the tensor is. */
  peek(): ArrayBufferView {
    const data = this.#hidden ?? this.#data;
    if (data === undefined) throw new Error('the tensor is disposed of');
    return data;
  }

  async getData(release = false): Promise<ArrayBufferView> {
    if (this.#data !== undefined) return this.#data;
    const hidden = this.#hidden;
    await Promise.resolve();
    if (hidden === undefined) throw new Error('the tensor is disposed of');
    this.#data = hidden;
    this.location = 'cpu';
    if (release) this.#giveBack();
    return hidden;
  }

  dispose(): void {
    this.#giveBack();
    this.#data = undefined;
    this.location = 'none';
  }

  #giveBack(): void {
    if (this.#hidden !== undefined) OrtTensor.onGpu -= 1;
    this.#hidden = undefined;
  }
}

/** A tensor as transformers.js has it: one of onnxruntime inside. */
export class Tensor {
  readonly ort_tensor: OrtTensor;

  constructor(...args: [string, ArrayBufferView, number[]] | [OrtTensor]) {
    this.ort_tensor = args.length === 1 ? args[0] : new OrtTensor(...args);
  }

  get type(): string {
    return this.ort_tensor.type;
  }
  get dims(): number[] {
    return this.ort_tensor.dims;
  }
  get data(): ArrayBufferView {
    return this.ort_tensor.data;
  }
  get location(): string {
    return this.ort_tensor.location;
  }
  dispose(): void {
    this.ort_tensor.dispose();
  }
}

/** The cache of transformers.js, as far as it is used here. */
export class DynamicCache {
  [entry: string]: unknown;

  constructor(entries: Record<string, Tensor> = {}) {
    for (const [name, tensor] of Object.entries(entries)) {
      if (!(tensor instanceof Tensor)) throw new TypeError(`${name} is no Tensor`);
      this[name] = tensor;
    }
  }

  get_seq_length(): number {
    const first = Object.entries(this).find(([name]) => name.startsWith('past_key_values.'));
    return (first?.[1] as Tensor | undefined)?.dims[2] ?? 0;
  }

  update(entries: Record<string, Tensor>): void {
    for (const [name, tensor] of Object.entries(entries)) {
      const old = this[name] as Tensor | undefined;
      if (old !== undefined && old !== tensor && old.location === 'gpu-buffer') old.dispose();
      this[name] = tensor;
    }
  }
}

/** What a run of `generate` takes for a cache. */
export interface CacheOfAModel {
  get_seq_length(): number;
  // biome-ignore lint/suspicious/noExplicitAny: each has tensors of its own class.
  update(entries: any): void;
}

/** How the fake model is built. */
export interface FakeModel {
  readonly layers: number;
  readonly heads: number;
  readonly headDim: number;
  readonly type: 'float32' | 'float16';
  /** Its outputs stay on the GPU, as with WebGPU. */
  readonly gpu?: boolean;
  /** It has a convolution and a recurrent state beside one layer of attention in two. */
  readonly hybrid?: boolean;
  /** Every how many-th step fails; 0: none. */
  readonly failAt?: number;
}

export const SMALL: FakeModel = { layers: 3, heads: 2, headDim: 32, type: 'float32' };

const VOCABULARY = 500;

/** A number between -1 and 1 that looks random and is always the same. */
function noise(...seeds: number[]): number {
  let state = 0x9e3779b9;
  for (const seed of seeds) {
    state = Math.imul(state ^ (seed + 0x7f4a7c15), 0x85ebca6b);
    state ^= state >>> 13;
  }
  return (state >>> 0) / 2 ** 31 - 1;
}

function toHalf(value: number): number {
  // Multiples of 1/64 below 1 are exact in float16 and easy to write down.
  const sign = value < 0 ? 0x8000 : 0;
  const size = Math.round(Math.abs(value) * 64) / 64;
  if (size === 0) return sign;
  const exponent = Math.floor(Math.log2(size));
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

/** Keys or values of one token in one layer, `[heads, headDim]`; they depend on the token and on where it stands. */
export function rowOf(model: FakeModel, layer: number, half: number, position: number, id: number): Float32Array {
  const row = new Float32Array(model.heads * model.headDim);
  // Channels of keys differ in size, as those of real models do.
  for (let index = 0; index < row.length; index++) {
    const size = half === 0 && index % model.headDim < 3 ? 1 : 0.25;
    row[index] = size * noise(layer, half, position, id, index);
  }
  return row;
}

function numbers(model: FakeModel, length: number): Float32Array | Uint16Array {
  return model.type === 'float16' ? new Uint16Array(length) : new Float32Array(length);
}

function tensor(model: FakeModel, type: string, data: ArrayBufferView, dims: number[]): Tensor {
  return new Tensor(model.gpu === true ? OrtTensor.gpu(type, data, dims) : new OrtTensor(type, data, dims));
}

/** Names of layers of attention. */
export function attentionLayers({ layers, hybrid }: FakeModel): number[] {
  return [...Array(layers).keys()].filter((layer) => hybrid !== true || layer % 2 === 0);
}

/** One step: the new tokens after what was. Outputs are named `present…`, as a session names them. */
export async function step(
  model: FakeModel,
  past: Record<string, Tensor>,
  ids: readonly number[],
): Promise<Record<string, Tensor>> {
  const { heads, headDim, type } = model;
  await new Promise((resolve) => setTimeout(resolve));
  const out: Record<string, Tensor> = {};
  for (const layer of attentionLayers(model)) {
    for (const [half, name] of ['key', 'value'].entries()) {
      const before = past[`past_key_values.${layer}.${name}`];
      const old = before?.dims[2] ?? 0;
      const held = before?.ort_tensor.peek() as Float32Array | Uint16Array | undefined;
      const tokens = old + ids.length;
      const data = numbers(model, heads * tokens * headDim);
      for (let head = 0; head < heads; head++) {
        const start = head * tokens * headDim;
        if (held !== undefined) data.set(held.subarray(head * old * headDim, (head + 1) * old * headDim), start);
        for (const [index, id] of ids.entries()) {
          const row = rowOf(model, layer, half, old + index, id).subarray(head * headDim, (head + 1) * headDim);
          data.set(type === 'float16' ? row.map(toHalf) : row, start + (old + index) * headDim);
        }
      }
      out[`present.${layer}.${name}`] = tensor(model, type, data, [1, heads, tokens, headDim]);
    }
  }
  if (model.hybrid === true) {
    const state = Float32Array.of(ids.at(-1) ?? 0, (past['past_conv.1'] as Tensor | undefined) === undefined ? 0 : 1);
    out['present_conv.1'] = tensor(model, 'float32', state, [1, 2]);
    out['present_recurrent.1'] = tensor(model, 'int64', BigInt64Array.of(BigInt(ids.length)), [1]);
  }
  return out;
}

/** The next token follows from all keys and values, so that what a cache changes shows. */
function next(outputs: Record<string, Tensor>): number {
  let sum = 0;
  for (const [name, { type, ort_tensor }] of Object.entries(outputs)) {
    if (!name.startsWith('present.')) continue;
    const values = ort_tensor.peek() as Float32Array | Uint16Array;
    for (const [index, value] of values.entries())
      sum += type === 'float16' ? value % 97 : Math.round(value * (1 + (index % 3)) * 8);
  }
  return Math.abs(sum) % VOCABULARY;
}

/** `generate` of transformers.js. Returns the prompt's ids with the new ones behind. */
export async function generate(
  model: FakeModel,
  { inputIds, cache, newTokens = 4 }: { inputIds: readonly number[]; cache: CacheOfAModel; newTokens?: number },
): Promise<number[]> {
  const all = [...inputIds];
  let unseen = [...inputIds];
  for (let done = 1; ; done++) {
    const length = cache.get_seq_length();
    if (length < unseen.length && done === 1) unseen = unseen.slice(length);
    const feeds = Object.keys(cache).length > 0 ? (Object.assign({}, cache) as unknown as Record<string, Tensor>) : {};
    if (model.failAt === done) throw new Error('the session failed');
    const outputs = await step(model, feeds, unseen);
    const id = next(outputs);
    all.push(id);
    const entries: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(outputs)) {
      entries[name.replace('present_', 'past_').replace('present.', 'past_key_values.')] = value;
    }
    cache.update(entries);
    if (done === newTokens) {
      const kept = new Set(Object.values(cache));
      for (const output of Object.values(outputs)) {
        if (output.location === 'gpu-buffer' && !kept.has(output)) output.dispose();
      }
      return all;
    }
    unseen = [id];
  }
}

/** A prompt. */
export function promptOf(length: number, seed = 1): number[] {
  return Array.from({ length }, (_, index) => Math.floor(Math.abs(noise(seed, index)) * VOCABULARY));
}

/** A cache of transformers.js after a prompt and an answer, and the ids that it holds. */
export async function talked(model: FakeModel, tokens: number, newTokens = 3) {
  const cache = new DynamicCache();
  const ids = await generate(model, { inputIds: promptOf(tokens), cache, newTokens });
  return { cache, ids };
}

/** An entry's numbers. */
export const numbersIn = (cache: object, name: string) =>
  (cache as Record<string, Tensor>)[name]?.data as Float32Array | Uint16Array;
