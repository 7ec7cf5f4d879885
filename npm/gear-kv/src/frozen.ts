/// <reference lib="esnext.disposable" preserve="true" />
import { checkedSignal, turn, withCancel } from './abort.js';
import type { About, AboutOptions } from './about.js';
import type { Backend, CacheHandle, FrozenHandle } from './backend/binding.js';
import { guarded, settled } from './backend/failure.js';
import type { ByteSource, StreamOptions } from './byte-stream.js';
import { type GearCache, restored } from './cache.js';
import type { CacheShape } from './cache-options.js';
import { place, withoutDevice } from './device.js';
import { GearError } from './errors.js';
import { checkedBytes, checkedLoadOptions, checkedStreamOptions } from './from-bytes.js';
import {
  type FreezeOptions,
  type FrozenLayerStats,
  type FrozenStats,
  freezeSettings,
  type ThawOptions,
  thawSettings,
} from './frozen-options.js';
import { newFloat32Array } from './kv-array.js';
import type { ResolvedGearOptions, Role } from './options.js';
import { readCache, readCacheFile, readCacheStream, savedBytes, savedFile, savedStream } from './saved.js';
import type { KeyOptions } from './seal-key.js';
import { checkedCount } from './shape.js';
import type { FromBytesOptions } from './tensor.js';

interface FrozenInfo extends CacheShape {
  tokens: number;
  byteLength: number;
  float16ByteLength: number;
  statisticsByteLength: number;
  perLayer: FrozenLayerStats[];
  keyConfig: ResolvedGearOptions;
  valueConfig: ResolvedGearOptions;
}

/** Makes a {@link FrozenCache}; its constructor is nobody else's business. */
export let frozenCache: (backend: Backend, handle: FrozenHandle, about?: Readonly<About>) => FrozenCache;

/**
 * A model's cache at rest: entropy-coded, smaller than any form that attention can work on. Made by `GearCache.freeze` and
 * by {@link FrozenCache.fromBytes}; it does not change.
 */
export class FrozenCache {
  readonly #backend: Backend;
  readonly #about: Readonly<About> | undefined;
  #handle: FrozenHandle | undefined;
  #info: FrozenInfo | undefined;

  static {
    // `this`: the bundler renames a class that names itself in its body, and users would see that.
    frozenCache = (backend, handle, about) => new this(backend, handle, about);
  }

  private constructor(backend: Backend, handle: FrozenHandle, about: Readonly<About> | undefined) {
    this.#backend = backend;
    this.#about = about;
    this.#handle = handle;
  }

  /**
   * Restores a frozen cache from {@link toBytes}, `bytes` being untrusted: damage is found by checksum and structure.
   *
   * @throws GearError `CORRUPT_DATA`, `UNSUPPORTED_VERSION`, `BACKEND_UNAVAILABLE`; `KEY_MISMATCH` for sealed bytes, which {@link fromStream} takes with `key`.
   */
  static fromBytes(bytes: Uint8Array | ArrayBuffer, options: FromBytesOptions = {}): FrozenCache {
    const { view, backend } = checkedBytes(bytes, options);
    const { handle, about } = readCache('frozen', backend, view);
    return frozenCache(backend, handle, about);
  }

  /**
   * Restores a frozen cache from the stream that {@link toStream} made, or from any stream or iterable of byte chunks.
   *
   * @throws GearError as {@link fromBytes}, and `KEY_MISMATCH`, `IO_FAILED` where the stream fails; the signal's reason where that fired.
   */
  static async fromStream(
    source: ByteSource,
    options: FromBytesOptions & StreamOptions & KeyOptions = {},
  ): Promise<FrozenCache> {
    const { backend, signal, key } = checkedStreamOptions(options);
    const { handle, about } = await readCacheStream('frozen', backend, source, signal, key);
    return frozenCache(backend, handle, about);
  }

  /**
   * Restores a frozen cache from a file that {@link save} wrote. Node, Deno and Bun.
   *
   * @throws GearError as {@link fromBytes}, and `KEY_MISMATCH`, `IO_FAILED` with the system's error as `cause`.
   */
  static async load(path: string | URL, options: FromBytesOptions & KeyOptions = {}): Promise<FrozenCache> {
    const { backend, key } = checkedLoadOptions(options);
    const { handle, about } = await readCacheFile('frozen', backend, path, key);
    return frozenCache(backend, handle, about);
  }

  /**
   * What the bytes that this cache was restored from said of it; undefined where they said nothing, or it was not restored. It is
   * not written again unless it is given to {@link save}, {@link toBytes} or {@link toStream}.
   */
  get about(): Readonly<About> | undefined {
    return this.#about;
  }

  /** Layers of the model. */
  get layers(): number {
    return this.#information().layers;
  }

  /** Sequences computed side by side. */
  get batch(): number {
    return this.#information().batch;
  }

  /** Heads of K and V. */
  get kvHeads(): number {
    return this.#information().kvHeads;
  }

  /** Channels of one head. */
  get headDim(): number {
    return this.#information().headDim;
  }

  /** Tokens that every layer holds: the least over the layers. */
  get tokens(): number {
    return this.#information().tokens;
  }

  /** Which backend holds it. */
  get backend(): 'native' | 'wasm' {
    return this.#backend.name;
  }

  /** Bytes of everything that is kept. */
  get byteLength(): number {
    return this.#information().byteLength;
  }

  /** Bytes that the same tokens take as float16. */
  get float16ByteLength(): number {
    return this.#information().float16ByteLength;
  }

  /** Where the bytes go, layer by layer. */
  stats(): FrozenStats {
    const { perLayer, keyConfig, valueConfig, ...sizes } = this.#information();
    const { byteLength, float16ByteLength } = sizes;
    return {
      ...sizes,
      ratio: float16ByteLength === 0 ? 0 : float16ByteLength / byteLength,
      bitsPerElement: float16ByteLength === 0 ? 0 : (16 * byteLength) / float16ByteLength,
      perLayer: structuredClone(perLayer),
      keyOptions: { ...keyConfig },
      valueOptions: { ...valueConfig },
    };
  }

  /**
   * A cache with these tokens, in the background, each layer compressed as one prompt: with the options of the cache that was
   * frozen, or with others. `preset: 'float16'` keeps the values as they come out.
   *
   * @throws GearError `INVALID_OPTION`, `CORRUPT_DATA`, `DISPOSED`; the signal's reason where that fired.
   */
  async thaw(options: ThawOptions = {}): Promise<GearCache> {
    const handle = this.#live();
    const { device, others } = withoutDevice(options);
    const { keyJson, valueJson } = thawSettings(others);
    const signal = checkedSignal(options.signal);
    signal?.throwIfAborted();
    const backend = this.#backend;
    const { tasks } = backend;
    if (tasks === undefined) {
      await turn(signal);
      const live = this.#live();
      const thawed = guarded(() => live.thaw(keyJson, valueJson));
      return restored(backend, thawed, undefined, place(backend, thawed, device));
    }
    const thawed = await withCancel<CacheHandle>(
      (cancel) => settled(() => tasks.thawTask(handle, keyJson, valueJson, cancel)),
      new tasks.Cancel(),
      signal,
      (late) => late.release(),
    );
    return restored(backend, thawed, undefined, place(backend, thawed, device));
  }

  /** The keys of one layer, `[batch, kvHeads, tokens, headDim]`. @throws GearError `SHAPE_MISMATCH`, `CORRUPT_DATA`. */
  key(layer: number): Float32Array {
    return this.#decompressed(layer, 'key');
  }

  /** The values of one layer, `[batch, kvHeads, tokens, headDim]`. @throws GearError `SHAPE_MISMATCH`, `CORRUPT_DATA`. */
  value(layer: number): Float32Array {
    return this.#decompressed(layer, 'value');
  }

  /**
   * The frozen cache as a `.gear` container: versioned, checksummed, the same on every backend.
   *
   * @param about - What the container is to say of the cache. Default: nothing.
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH`, `OUT_OF_RANGE`, `DISPOSED`.
   */
  toBytes(about?: About): Uint8Array {
    return savedBytes(this.#live(), about);
  }

  /** The bytes of {@link toBytes} as a stream, which holds little of them. */
  toStream(options: StreamOptions & AboutOptions & KeyOptions = {}): ReadableStream<Uint8Array> {
    return savedStream(this.#backend, () => this.#live(), options);
  }

  /**
   * Writes the frozen cache to a file: beside it first, then moved into place, so that a crash leaves the old file or the
   * new one and never half of it. Node, Deno and Bun.
   *
   * @throws GearError as {@link toBytes}, and `IO_FAILED` with the system's error as `cause`.
   */
  async save(path: string | URL, options: AboutOptions & KeyOptions = {}): Promise<void> {
    await savedFile(path, this.#backend, () => this.#live(), options);
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

  #live(): FrozenHandle {
    if (this.#handle === undefined) {
      throw new GearError('DISPOSED', 'this FrozenCache was disposed of; thaw() it before, or freeze() again');
    }
    return this.#handle;
  }

  #information(): FrozenInfo {
    const handle = this.#live();
    this.#info ??= JSON.parse(guarded(() => handle.info())) as FrozenInfo;
    return this.#info;
  }

  #decompressed(layer: unknown, role: Role): Float32Array {
    const handle = this.#live();
    const index = checkedCount('layer', layer, 0);
    const { layers, perLayer, batch, kvHeads, headDim } = this.#information();
    const found = perLayer[index];
    if (found === undefined) {
      throw new GearError('SHAPE_MISMATCH', `layer is ${index}; this cache has ${layers} layers, 0 to ${layers - 1}`);
    }
    const out = newFloat32Array(batch * kvHeads * found.tokens * headDim);
    guarded(() => handle.decompressInto(index, role, out));
    return out;
  }
}

/** What `GearCache.freeze` does. `live` gives the cache's handle, or throws where it is gone. */
export async function freezeCache(
  backend: Backend,
  shape: CacheShape,
  live: () => CacheHandle,
  options: FreezeOptions,
): Promise<FrozenCache> {
  const { json, queries } = freezeSettings(options, shape);
  const signal = checkedSignal(options.signal);
  signal?.throwIfAborted();
  const { tasks } = backend;
  if (tasks === undefined) {
    // What is appended after the call must not be frozen.
    const snapshot = guarded(() => live().fork());
    try {
      await turn(signal);
      return frozenCache(
        backend,
        guarded(() => backend.binding.Frozen.freeze(snapshot, json, queries)),
      );
    } finally {
      guarded(() => snapshot.release());
    }
  }
  const handle = await withCancel<FrozenHandle>(
    (cancel) => settled(() => tasks.freezeTask(live(), json, queries, cancel)),
    new tasks.Cancel(),
    signal,
    (late) => late.release(),
  );
  return frozenCache(backend, handle);
}
