import type { About, AboutOptions } from './about.js';
import { appendInput } from './append-input.js';
import { attendInput, separate } from './attend-input.js';
import type { Backend, CacheHandle } from './backend/binding.js';
import { guarded } from './backend/failure.js';
import { backendFor } from './backend/selection.js';
import type { ByteSource, StreamOptions } from './byte-stream.js';
import {
  type AttendOptions,
  type CacheAppendOptions,
  type CacheShape,
  type CacheStats,
  cacheSettings,
  type GearCacheOptions,
  type LayerStats,
  type ShiftOptions,
} from './cache-options.js';
import { type CacheDevice, type DeviceChoice, type DeviceOptions, deviceOf, place, withoutDevice } from './device.js';
import { GearError } from './errors.js';
import { checkedBytes, checkedLoadOptions, checkedStreamOptions } from './from-bytes.js';
import { type FrozenCache, freezeCache } from './frozen.js';
import type { FreezeOptions } from './frozen-options.js';
import { type KvData, newFloat32Array, writeInto } from './kv-array.js';
import { checkedOptions, type ResolvedGearOptions, type Role, refuseUnknown } from './options.js';
import { type Read, readCache, readCacheFile, readCacheStream, savedBytes, savedFile, savedStream } from './saved.js';
import type { KeyOptions } from './seal-key.js';
import { checkedCount, checkedIndices } from './shape.js';
import type { FromBytesOptions } from './tensor.js';

interface CacheInfo extends CacheShape {
  tokens: number;
  byteLength: number;
  float16ByteLength: number;
  layerStats: LayerStats[];
  keyConfig: ResolvedGearOptions;
  valueConfig: ResolvedGearOptions;
}

/**
 * A whole model's key-value cache, compressed as it grows, with attention computed on the compressed form.
 *
 * Everything is done on the calling thread: `append` and `attend` are what a decoder calls at every step.
 */
export class GearCache {
  readonly #backend: Backend;
  #shape: CacheShape;
  readonly #about: Readonly<About> | undefined;
  /** Why it is not on a GPU, where the backend has no word for it. */
  readonly #reason: string | undefined;
  #handle: CacheHandle | undefined;
  #info: CacheInfo | undefined;

  /**
   * An empty cache.
   *
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH`, `BACKEND_UNAVAILABLE`: also with `device: 'cuda'` where there is no GPU.
   */
  constructor(options: GearCacheOptions) {
    if (options instanceof Restored) {
      this.#backend = options.backend;
      this.#handle = options.handle;
      this.#about = options.about;
      this.#reason = options.reason;
      const { layers, batch, kvHeads, headDim } = this.#information();
      this.#shape = { layers, batch, kvHeads, headDim };
      return;
    }
    const { shape, keyJson, valueJson, backend, device } = cacheSettings(options);
    this.#backend = backendFor(backend);
    this.#shape = shape;
    const { layers, batch, kvHeads, headDim } = shape;
    const handle = guarded(() =>
      this.#backend.binding.Cache.create(layers, batch, kvHeads, headDim, keyJson, valueJson),
    );
    this.#reason = place(this.#backend, handle, device);
    this.#handle = handle;
  }

  /**
   * Restores a cache from {@link toBytes}, `bytes` being untrusted: damage is found by checksum and structure.
   *
   * @throws GearError `CORRUPT_DATA`, `UNSUPPORTED_VERSION`, `BACKEND_UNAVAILABLE`; `KEY_MISMATCH` for sealed bytes, which {@link fromStream} takes with `key`.
   */
  static fromBytes(bytes: Uint8Array | ArrayBuffer, options: FromBytesOptions & DeviceOptions = {}): GearCache {
    const { device, others } = withoutDevice(options);
    const { view, backend } = checkedBytes(bytes, others);
    return restoredFrom(backend, readCache('cache', backend, view), device);
  }

  /**
   * Restores a cache from the stream that {@link toStream} made, or from any stream or iterable of byte chunks.
   *
   * @throws GearError as {@link fromBytes}, and `KEY_MISMATCH`, `IO_FAILED` where the stream fails; the signal's reason where that fired.
   */
  static async fromStream(
    source: ByteSource,
    options: FromBytesOptions & DeviceOptions & StreamOptions & KeyOptions = {},
  ): Promise<GearCache> {
    const { device, others } = withoutDevice(options);
    const { backend, signal, key } = checkedStreamOptions(others);
    return restoredFrom(backend, await readCacheStream('cache', backend, source, signal, key), device);
  }

  /**
   * Restores a cache from a file that {@link save} wrote. Node, Deno and Bun.
   *
   * @throws GearError as {@link fromBytes}, and `KEY_MISMATCH`, `IO_FAILED` with the system's error as `cause`.
   */
  static async load(
    path: string | URL,
    options: FromBytesOptions & DeviceOptions & KeyOptions = {},
  ): Promise<GearCache> {
    const { device, others } = withoutDevice(options);
    const { backend, key } = checkedLoadOptions(others);
    return restoredFrom(backend, await readCacheFile('cache', backend, path, key), device);
  }

  /** Layers of the model. */
  get layers(): number {
    return this.#shape.layers;
  }

  /** Sequences computed side by side; {@link reorder} may change how many. */
  get batch(): number {
    return this.#shape.batch;
  }

  /** Heads of K and V. */
  get kvHeads(): number {
    return this.#shape.kvHeads;
  }

  /** Channels of one head. */
  get headDim(): number {
    return this.#shape.headDim;
  }

  /** Which backend holds it. */
  get backend(): 'native' | 'wasm' {
    return this.#backend.name;
  }

  /** Where it is, and why it is not on a GPU where `device: 'auto'` asked for one. A GPU that fails under `auto` is given up for good. */
  get device(): CacheDevice {
    return deviceOf(this.#live(), this.#reason);
  }

  /**
   * What the bytes that this cache was restored from said of it; undefined where they said nothing, or it was not restored. It does
   * not change with the cache, and is not written again unless it is given to {@link save}, {@link toBytes} or {@link toStream}.
   */
  get about(): Readonly<About> | undefined {
    return this.#about;
  }

  /** Tokens that every layer holds: the least over the layers. */
  get tokens(): number {
    const handle = this.#live();
    return guarded(() => handle.tokens());
  }

  /** Tokens that one layer holds; layers differ in the middle of a decoding step. @throws GearError `SHAPE_MISMATCH`. */
  layerTokens(layer: number): number {
    const handle = this.#live();
    const index = this.#layer(layer);
    return guarded(() => handle.layerTokens(index));
  }

  /** Bytes of everything that is kept. What forks share counts in each of them: see {@link sharedByteLength}. */
  get byteLength(): number {
    return this.#information().byteLength;
  }

  /**
   * Bytes of {@link byteLength} that are in memory only once for this cache and its forks: disposing of this one does not give
   * them back. `byteLength - sharedByteLength` is what this cache takes beside them.
   */
  get sharedByteLength(): number {
    const handle = this.#live();
    // Asked for every time: it changes when a fork does.
    return guarded(() => handle.sharedByteLength());
  }

  /** Bytes that the same tokens take as float16. */
  get float16ByteLength(): number {
    return this.#information().float16ByteLength;
  }

  /**
   * Adds tokens to one layer. They wait in the buffer in float16 until it is full, and then become a segment;
   * a longer run (a prompt) becomes a segment at once.
   * Float16 and float32 may be mixed. All or nothing: after an error the layer is what it was.
   *
   * @param layer - From 0.
   * @param key - `[batch, kvHeads, new tokens, headDim]`, after RoPE; the number of tokens follows from its length.
   * @param value - The same shape.
   * @param options - The queries of the new tokens, where they are at hand: what is compressed is then compressed for them.
   * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `OUT_OF_RANGE`, `DISPOSED`.
   */
  append(layer: number, key: KvData, value: KvData, options: CacheAppendOptions = {}): void {
    const handle = this.#live();
    const index = this.#layer(layer);
    const widen = (bits: Uint16Array): Float32Array => guarded(() => this.#backend.binding.widenHalf(bits, 'f16'));
    const { kv, tokens, looking } = appendInput(this.#shape, key, value, options, widen);
    this.#info = undefined;
    if (looking !== undefined) {
      const { queries, json } = looking;
      guarded(() =>
        kv.kind === 'f32'
          ? handle.appendQueriedF32(index, kv.key, kv.value, tokens, queries, json)
          : handle.appendQueriedF16(index, kv.key, kv.value, tokens, queries, json),
      );
    } else if (kv.kind === 'f32') {
      guarded(() => handle.appendF32(index, kv.key, kv.value, tokens));
    } else {
      guarded(() => handle.appendF16(index, kv.key, kv.value, tokens));
    }
  }

  /**
   * `softmax(scale · q Kᵀ) V` on the compressed cache, which is not decompressed: codes, factors and outliers are
   * multiplied as they are, segment by segment, under an online softmax.
   *
   * @param layer - From 0.
   * @param query - `[batch, queryHeads, n, headDim]`; with `causal` the n queries belong to the newest n tokens.
   * @returns The same shape, float32: `options.out`, or a new array. On a GPU it differs from the CPU's within the tolerance of docs/cuda.md.
   * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `DISPOSED`; with `device: 'cuda'` also `BACKEND_UNAVAILABLE` where the GPU's memory
   * does not suffice or it fails, which leaves the cache as it is.
   */
  attend(layer: number, query: KvData, options: AttendOptions): Float32Array {
    const handle = this.#live();
    const index = this.#layer(layer);
    const { query: q, positions, json, out } = attendInput(this.#shape, query, options);
    return writeInto(out, (target) =>
      guarded(() =>
        q.kind === 'f32'
          ? handle.attendF32(index, separate(q.data, target), positions, json, target)
          : handle.attendF16(index, separate(q.data, target), positions, json, target),
      ),
    );
  }

  /** The keys of one layer, decompressed to `[batch, kvHeads, tokens, headDim]`. @throws GearError `SHAPE_MISMATCH`. */
  key(layer: number): Float32Array {
    return this.#decompressed(layer, 'key');
  }

  /** The values of one layer, decompressed to `[batch, kvHeads, tokens, headDim]`. @throws GearError `SHAPE_MISMATCH`. */
  value(layer: number): Float32Array {
    return this.#decompressed(layer, 'value');
  }

  /** Where the bytes go, layer by layer. */
  stats(): CacheStats {
    const { layerStats, keyConfig, valueConfig, layers, batch, kvHeads, headDim, ...sizes } = this.#information();
    return {
      layers,
      batch,
      kvHeads,
      headDim,
      tokens: sizes.tokens,
      byteLength: sizes.byteLength,
      float16ByteLength: sizes.float16ByteLength,
      ratio: sizes.float16ByteLength === 0 ? 0 : sizes.float16ByteLength / sizes.byteLength,
      perLayer: structuredClone(layerStats),
      keyOptions: { ...keyConfig },
      valueOptions: { ...valueConfig },
    };
  }

  /**
   * A second cache with the same content, which goes its own way from here. Until one of the two changes a layer they share it, and
   * segments for as long as both have them: a fork costs a few bytes a layer, and later what it appends.
   */
  fork(): GearCache {
    const handle = this.#live();
    return restored(
      this.#backend,
      guarded(() => handle.fork()),
      this.#about,
      this.#reason,
    );
  }

  /**
   * Forgets every token from `tokens` on, in every layer; the ones before it stay exactly as they are.
   *
   * @throws GearError `SHAPE_MISMATCH` if a layer has fewer tokens than that, `DISPOSED`.
   */
  truncate(tokens: number): void {
    const handle = this.#live();
    checkedCount('tokens', tokens, 0);
    this.#info = undefined;
    guarded(() => handle.truncate(tokens));
  }

  /**
   * Drops the `drop` oldest tokens behind the first `keep`, in every layer: a context shift. What is left decompresses to what it did
   * before, and `tokens` falls by `drop`.
   *
   * Keys stay turned by the positions that they were embedded with. So positions go on from where they were (from `tokens` before
   * the shift), and distances between all tokens that are left stay what they were; do not count them by `tokens` from here on.
   *
   * @throws GearError `SHAPE_MISMATCH` if a layer has fewer tokens than that or `keep` is less than its sinks, `INVALID_OPTION`, `DISPOSED`.
   */
  shift(options: ShiftOptions): void {
    const handle = this.#live();
    const { drop, keep } = checkedOptions<ShiftOptions>('the options of shift', options);
    refuseUnknown('shift', options, ['drop', 'keep']);
    checkedCount('drop', drop, 0);
    if (keep !== undefined) checkedCount('keep', keep, 0);
    this.#info = undefined;
    guarded(() => handle.shift(drop, keep));
  }

  /**
   * Makes sequence `i` of the batch a copy of what sequence `order[i]` was, in every layer: a step of beam search. Sequences may be
   * repeated and left out, and `batch` becomes as large as `order` is long: a prompt of one sequence becomes four beams by `reorder([0, 0, 0, 0])`.
   * What is compressed is neither moved nor copied.
   *
   * @param order - From 0; numbers, or the bigints of an int64 tensor.
   * @throws GearError `SHAPE_MISMATCH` for no index at all or one that is not in the batch, `DISPOSED`.
   */
  reorder(order: ArrayLike<number | bigint>): void {
    const handle = this.#live();
    const indices = checkedIndices('order', order, this.#shape.batch);
    this.#info = undefined;
    guarded(() => handle.reorder(indices));
    this.#shape = { ...this.#shape, batch: indices.length };
  }

  /** Forgets every token; sizes and options stay. */
  clear(): void {
    const handle = this.#live();
    this.#info = undefined;
    guarded(() => handle.clear());
  }

  /**
   * The cache as a `.gear` container: versioned, checksummed, the same on every backend.
   *
   * @param about - What the container is to say of the cache. Default: nothing.
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH`, `OUT_OF_RANGE`, `DISPOSED`.
   */
  toBytes(about?: About): Uint8Array {
    return savedBytes(this.#live(), about);
  }

  /** The bytes of {@link toBytes} as a stream, which holds little of them. The content is that of the moment of the call. */
  toStream(options: StreamOptions & AboutOptions & KeyOptions = {}): ReadableStream<Uint8Array> {
    return savedStream(this.#backend, () => this.#live(), options);
  }

  /**
   * Writes the cache, as it is now, to a file: beside it first, then moved into place, so that a crash leaves the old file or the new
   * one and never half of it. Node, Deno and Bun.
   *
   * @throws GearError as {@link toBytes}, and `IO_FAILED` with the system's error as `cause`.
   */
  async save(path: string | URL, options: AboutOptions & KeyOptions = {}): Promise<void> {
    await savedFile(path, this.#backend, () => this.#live(), options);
  }

  /**
   * The cache as it is now, at rest: entropy-coded in the background, to be thawed before anything attends to it. This cache
   * stays as it is; dispose of it to have its memory back.
   *
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH`, `NOT_FINITE`, `DISPOSED`; the signal's reason where that fired.
   */
  async freeze(options: FreezeOptions = {}): Promise<FrozenCache> {
    this.#live();
    return freezeCache(this.#backend, this.#shape, () => this.#live(), options);
  }

  /** Gives the memory back at once. Any later use throws `DISPOSED`; disposing again does nothing. */
  dispose(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    this.#info = undefined;
    if (handle !== undefined) guarded(() => handle.release());
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #live(): CacheHandle {
    if (this.#handle === undefined) {
      throw new GearError('DISPOSED', 'this GearCache was disposed of; fork() it before, or make a new one');
    }
    return this.#handle;
  }

  #information(): CacheInfo {
    const handle = this.#live();
    this.#info ??= JSON.parse(guarded(() => handle.info())) as CacheInfo;
    return this.#info;
  }

  #layer(layer: unknown): number {
    const index = checkedCount('layer', layer, 0);
    if (index >= this.#shape.layers) {
      throw new GearError(
        'SHAPE_MISMATCH',
        `layer is ${index}; this cache has ${this.#shape.layers} layers, 0 to ${this.#shape.layers - 1}`,
      );
    }
    return index;
  }

  #decompressed(layer: number, role: Role): Float32Array {
    const handle = this.#live();
    const index = this.#layer(layer);
    const { batch, kvHeads, headDim } = this.#shape;
    const tokens = guarded(() => handle.layerTokens(index));
    const out = newFloat32Array(batch * kvHeads * tokens * headDim);
    guarded(() => handle.decompressInto(index, role, out));
    return out;
  }
}

/** What the constructor gets when a cache exists already; not exported, so that nothing else can. */
class Restored {
  constructor(
    readonly backend: Backend,
    readonly handle: CacheHandle,
    readonly about: Readonly<About> | undefined,
    readonly reason: string | undefined,
  ) {}
}

/** A cache that exists already, where it is; `reason` as {@link place} gives it. */
export function restored(backend: Backend, handle: CacheHandle, about?: Readonly<About>, reason?: string): GearCache {
  return new GearCache(new Restored(backend, handle, about, reason) as unknown as GearCacheOptions);
}

function restoredFrom(backend: Backend, { handle, about }: Read<CacheHandle>, device: DeviceChoice): GearCache {
  return restored(backend, handle, about, place(backend, handle, device));
}
