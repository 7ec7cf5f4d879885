// What the two bindings export, name for name: the napi-rs module and the wasm-bindgen module are interchangeable here.
// This layer checks nothing; everything that reaches it has been validated by the facade.

/** One compressed K or V tensor, on the Rust side. */
export interface TensorHandle {
  appendF32(input: Float32Array, tokens: number): void;
  appendF16(input: Uint16Array, tokens: number): void;
  decompressInto(out: Float32Array): void;
  fork(): TensorHandle;
  truncate(tokens: number): void;
  clear(): void;
  info(): string;
  toBytes(): Uint8Array;
  release(): void;
}

/** A whole model's compressed cache, on the Rust side. */
export interface CacheHandle {
  appendF32(layer: number, key: Float32Array, value: Float32Array, tokens: number): void;
  appendF16(layer: number, key: Uint16Array, value: Uint16Array, tokens: number): void;
  appendQueriedF32(
    layer: number,
    key: Float32Array,
    value: Float32Array,
    tokens: number,
    queries: Float32Array,
    attendJson: string,
  ): void;
  appendQueriedF16(
    layer: number,
    key: Uint16Array,
    value: Uint16Array,
    tokens: number,
    queries: Float32Array,
    attendJson: string,
  ): void;
  attendF32(layer: number, query: Float32Array, queries: number, attendJson: string, out: Float32Array): void;
  attendF16(layer: number, query: Uint16Array, queries: number, attendJson: string, out: Float32Array): void;
  decompressInto(layer: number, role: string, out: Float32Array): void;
  tokens(): number;
  layerTokens(layer: number): number;
  info(): string;
  sharedByteLength(): number;
  fork(): CacheHandle;
  truncate(tokens: number): void;
  reorder(order: Uint32Array): void;
  shift(drop: number, keep?: number): void;
  clear(): void;
  writer(aboutJson: string, aboutBytes: Uint8Array): CacheWriterHandle;
  /** Puts it on a GPU as well; where that cannot be done, fails or leaves it where it is. Only the native module has it. */
  place?(orMain: boolean): void;
  /** Where it is, as JSON. Only the native module has it. */
  device?(): string;
  release(): void;
}

/** A model's cache at rest, on the Rust side. */
export interface FrozenHandle {
  thaw(keyOptionsJson: string, valueOptionsJson: string): CacheHandle;
  decompressInto(layer: number, role: string, out: Float32Array): void;
  info(): string;
  writer(aboutJson: string, aboutBytes: Uint8Array): CacheWriterHandle;
  release(): void;
}

/** A cache's container in the making, piece by piece. */
export interface CacheWriterHandle {
  remaining(): number;
  nextInto(out: Uint8Array): number;
  release(): void;
}

/** A cache whose container comes in pieces. */
export interface CacheReaderHandle {
  push(bytes: Uint8Array): void;
  missingToKnow(): number;
  about(): string;
  aboutBytes(): Uint8Array;
  cache(): CacheHandle;
  frozen(): FrozenHandle;
  release(): void;
}

/** A parsed `.gear` container. */
export interface ContainerHandle {
  info(): string;
  tensor(name: string): TensorHandle;
  raw(name: string): Uint8Array;
  release(): void;
}

/** A `.gear` container in the making. */
export interface ContainerWriterHandle {
  addTensor(name: string, tensor: TensorHandle, metadataJson: string): void;
  addRaw(name: string, dtype: string, shapeJson: string, bytes: Uint8Array, metadataJson: string): void;
  finish(): Uint8Array;
  release(): void;
}

/** Stops background work of the native module. */
export interface CancelHandle {
  cancel(): void;
}

type Compress<Input, Result> = (
  input: Input,
  batch: number,
  heads: number,
  tokens: number,
  headDim: number,
  role: string,
  optionsJson: string,
) => Result;

type CompressTask<Input> = (
  input: Input,
  batch: number,
  heads: number,
  tokens: number,
  headDim: number,
  role: string,
  optionsJson: string,
  cancel: CancelHandle,
) => Promise<TensorHandle>;

/** What both bindings export. */
export interface Binding {
  version(): string;
  simdLevel(): string;
  presetNames(): string[];
  resolveOptions(optionsJson: string, role: string): string;
  Tensor: {
    compressF32: Compress<Float32Array, TensorHandle>;
    compressF16: Compress<Uint16Array, TensorHandle>;
    fromBytes(bytes: Uint8Array): TensorHandle;
  };
  Cache: {
    create(
      layers: number,
      batch: number,
      kvHeads: number,
      headDim: number,
      keyOptionsJson: string,
      valueOptionsJson: string,
    ): CacheHandle;
  };
  Frozen: {
    freeze(cache: CacheHandle, optionsJson: string, queries: Float32Array): FrozenHandle;
  };
  CacheReader: { create(kind: 'cache' | 'frozen' | 'either'): CacheReaderHandle };
  Container: { parse(bytes: Uint8Array): ContainerHandle };
  ContainerWriter: { create(): ContainerWriterHandle };
  safetensorsIndex(bytes: Uint8Array): string;
  safetensorsMetadata(bytes: Uint8Array): string;
  safetensorsSerialize(entriesJson: string, payload: Uint8Array): Uint8Array;
  widenHalf(input: Uint16Array, kind: 'f16' | 'bf16'): Float32Array;
  narrowHalf(input: Float32Array, kind: 'f16' | 'bf16'): Uint16Array;
}

/** Background work, which only the native module has: WebAssembly here has one thread. */
export interface BindingTasks {
  Cancel: new () => CancelHandle;
  compressTaskF32: CompressTask<Float32Array>;
  compressTaskF16: CompressTask<Uint16Array>;
  decompressTask(tensor: TensorHandle, cancel: CancelHandle): Promise<Float32Array>;
  appendTaskF32(tensor: TensorHandle, input: Float32Array, tokens: number, cancel: CancelHandle): Promise<void>;
  appendTaskF16(tensor: TensorHandle, input: Uint16Array, tokens: number, cancel: CancelHandle): Promise<void>;
  toBytesTask(tensor: TensorHandle): Promise<Uint8Array>;
  writerPrepareTask(writer: CacheWriterHandle): Promise<void>;
  openDeviceTask(orMain: boolean): Promise<string>;
  freezeTask(
    cache: CacheHandle,
    optionsJson: string,
    queries: Float32Array,
    cancel: CancelHandle,
  ): Promise<FrozenHandle>;
  thawTask(
    frozen: FrozenHandle,
    keyOptionsJson: string,
    valueOptionsJson: string,
    cancel: CancelHandle,
  ): Promise<CacheHandle>;
}

/** A backend by name. */
export type BackendName = 'native' | 'wasm';

/** A loaded binding. */
export interface Backend {
  readonly name: BackendName;
  readonly binding: Binding;
  /** Absent where there are no background threads. */
  readonly tasks?: BindingTasks;
}
