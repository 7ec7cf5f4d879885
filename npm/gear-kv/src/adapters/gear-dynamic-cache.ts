/// <reference lib="esnext.disposable" preserve="true" />
import { turn } from '../abort.js';
import { GearError } from '../errors.js';
import type { GearCache } from '../public.js';
import {
  appendRows,
  type Belonging,
  belonging,
  type Compression,
  emptyCache,
  layerTensors,
  refuseCompression,
} from './freeze.js';
import { bearing, cacheEntries, HALVES, type Layout, layoutOf, refuseOtherLayout, tokensIn } from './layout.js';
import { FrozenPrefix } from './prefix.js';
import { rawArray, rawTensor, withRawArrays } from './raw-array.js';
import { dataInMemory, downloaded, type Entries, isInMemory, type TensorClass, type TensorLike } from './tensor.js';
import { checkedClass, kvTensor } from './thaw.js';
import { checkedTokenIds, commonPrefix, type TokenIds } from './token-ids.js';

/** Options of {@link GearDynamicCache}. */
export interface GearDynamicCacheOptions extends Compression {
  /** Begin with what was frozen; the cache shares it and leaves it as it is. Its own compression counts. */
  from?: FrozenPrefix;
  /** The class `Tensor` of `@huggingface/transformers`; needed with `from`, and otherwise taken from the model's own tensors. */
  Tensor?: TensorClass<TensorLike>;
}

/**
 * Where `generate` is. It calls `get_seq_length` before each step, reads every entry for it, and calls `update` after it; after the last step it
 * reads every entry once more, with no question before.
 */
type Phase = 'between' | 'updated' | 'asked' | 'read' | 'ended';

/**
 * A cache for `generate` and `pipeline` of transformers.js, as `past_key_values`. While a call runs, it holds the model's own tensors, as
 * `DynamicCache` does. After it, what is new is compressed, and nothing else is kept; the next call gets it decompressed.
 *
 * Tokens are compressed a layer at a time, with turns of the event loop in between; {@link settle} waits for it. One call at a time.
 */
export class GearDynamicCache {
  /** Its entries, as transformers.js reads them: `past_key_values.0.key` and so on. */
  // biome-ignore lint/suspicious/noExplicitAny: so that `generate` takes it, whose entries are of a class that only its caller has.
  [entry: string]: any;

  readonly #compression: Compression;
  #Tensor: TensorClass<TensorLike> | undefined;
  #held: { readonly cache: GearCache; readonly layout: Layout } | undefined;
  /** What the last step gave, until it is compressed. */
  #dense: Entries | undefined;
  /** What the model keeps beside keys and values. */
  readonly #others = new Map<string, TensorLike>();
  /** Tensors whose numbers were fetched, and whose own memory is still to be given back. */
  readonly #fetched = new Set<TensorLike>();
  #ids: Uint32Array = new Uint32Array(0);
  #phase: Phase = 'between';
  #settling: Promise<void> | undefined;

  /** @throws GearError `INVALID_OPTION`, `DISPOSED`. */
  constructor(options: GearDynamicCacheOptions = {}) {
    const { from, Tensor, ...compression } = options;
    this.#compression = compression;
    this.#Tensor = Tensor;
    if (from === undefined) return;
    refuseCompression(compression, 'from');
    const tensorClass = checkedClass('Tensor', Tensor) as TensorClass<TensorLike>;
    for (const [name, array] of Object.entries(from.about.arrays ?? {})) {
      this.#others.set(name, rawTensor(tensorClass, name, array, from.tokens, from.tokens));
    }
    this.#held = { cache: from.live('from').fork(), layout: from.layout };
    this.#ids = from.tokenIds ?? this.#ids;
    this.#declareEntries();
  }

  /** Tokens held: what transformers.js asks before every step. */
  get_seq_length(): number {
    if (this.#phase === 'updated') this.#phase = 'asked';
    else if (this.#phase === 'read' || this.#phase === 'ended') this.#phase = this.#begin() ? 'between' : 'asked';
    const { layout, cache } = this.#held ?? {};
    return this.#dense !== undefined && layout !== undefined ? tokensIn(this.#dense, layout) : (cache?.tokens ?? 0);
  }

  /**
   * Takes the entries that a step gave: what transformers.js calls after every step.
   *
   * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `MODEL_MISMATCH` for those of another model.
   */
  update(entries: Record<string, TensorLike>): void {
    const given = cacheEntries(entries);
    const layout = layoutOf(given);
    if (this.#held !== undefined) refuseOtherLayout(this.#held.layout, layout);
    this.#held ??= { cache: emptyCache(layout, this.#compression), layout };
    const { cache } = this.#held;
    const tokens = tokensIn(given, layout);
    if (tokens < cache.tokens) {
      throw new GearError(
        'SHAPE_MISMATCH',
        `the entries have ${tokens} tokens, and this cache ${cache.tokens}; it grows only`,
      );
    }
    const before = [...Object.values(this.#dense ?? {}), ...layout.others.map((name) => this.#others.get(name))];
    for (const name of layout.others) this.#others.set(name, given[name] as TensorLike);
    this.#dense = given;
    const kept = new Set<TensorLike | undefined>(Object.values(given));
    for (const tensor of before) if (tensor !== undefined && !kept.has(tensor)) this.#release(tensor);
    this.#Tensor ??= given[`${layout.layers[0]}.key`]?.constructor as TensorClass<TensorLike>;
    this.#phase = 'updated';
    this.#declareEntries();
  }

  /**
   * Waits until everything is compressed and nothing else is held. After a call that failed, this is what lets go of its tensors. On a GPU, whose
   * tensors have to be fetched, await it between two calls: a call that comes before it goes on with the tensors as they are.
   *
   * @throws GearError `NOT_FINITE`, `OUT_OF_RANGE`, `IO_FAILED`.
   */
  async settle(): Promise<void> {
    while (this.#dense !== undefined) {
      this.#phase = 'ended';
      await this.#compressed();
    }
  }

  /** Bytes of the compressed keys and values. What a running call holds, and what the model keeps beside them, comes on top. */
  get byteLength(): number {
    return this.#held?.cache.byteLength ?? 0;
  }

  /** Ids of the tokens held, as far as they are known. */
  get tokenIds(): Uint32Array {
    return this.#ids;
  }

  /** Set it to what `generate` returned, so that the next prompt can be compared with it. */
  set tokenIds(ids: TokenIds) {
    this.#ids = checkedTokenIds('tokenIds', ids);
  }

  /**
   * Call it before `generate`, which does not compare tokens: forgets all but those that the prompt begins with, and leaves at least the prompt's
   * last one to compute. The prompt's ids are the known ones from then on.
   *
   * @returns How many tokens are left; `generate` computes the rest of the prompt.
   * @throws GearError `BUSY` if something is on the GPU still; await {@link settle} first. `INVALID_OPTION`.
   */
  keepPrefixOf(inputIds: TokenIds): number {
    const ids = checkedTokenIds('inputIds', inputIds);
    if (!this.#begin()) {
      throw new GearError('BUSY', 'what the last call gave is on the GPU still; await settle() before keepPrefixOf()');
    }
    const tokens = this.#held?.cache.tokens ?? 0;
    const shared = Math.min(commonPrefix(this.#ids.subarray(0, tokens), ids), ids.length - 1);
    const kept = shared > 0 && (shared === tokens || this.#cutOthers(tokens, shared)) ? shared : 0;
    if (kept === 0) this.#forget();
    else this.#held?.cache.truncate(kept);
    this.#ids = ids;
    return kept;
  }

  /**
   * What is held, as a {@link FrozenPrefix} that shares it: nothing is compressed again. Without `tokenIds`, the known ones.
   *
   * @throws GearError as {@link settle}; `SHAPE_MISMATCH`, `INVALID_OPTION`.
   */
  async freeze(options: Belonging = {}): Promise<FrozenPrefix> {
    const { tokenIds, model, metadata, ...others } = options;
    refuseCompression(others, 'a GearDynamicCache');
    await this.settle();
    if (this.#held === undefined)
      throw new GearError('SHAPE_MISMATCH', 'this cache is empty; there is nothing to freeze');
    const { cache, layout } = this.#held;
    const known = layout.batch === 1 && this.#ids.length >= cache.tokens ? this.#ids : undefined;
    const about = belonging({ tokenIds: tokenIds ?? known, model, metadata }, layout, cache.tokens);
    const snapshot = cache.fork();
    try {
      return new FrozenPrefix(snapshot, await withRawArrays(about, this.#others));
    } catch (error) {
      snapshot.dispose();
      throw error;
    }
  }

  /** Gives everything back; the cache is empty then, and can be used again. */
  async dispose(): Promise<void> {
    this.#forget();
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.#forget();
  }

  /** A call begins: what the last one gave is compressed by now, or at once. False where that takes waiting. */
  #begin(): boolean {
    const dense = this.#dense;
    if (dense !== undefined && this.#held !== undefined) {
      const { cache, layout } = this.#held;
      const layers = layout.layers.map((_, layer) => layerTensors(dense, layout, layer));
      if (!layers.every(({ key, value }) => isInMemory(key) && isInMemory(value))) return false;
      for (const [layer, { key, value }] of layers.entries()) {
        const data = [dataInMemory('key', key), dataInMemory('value', value)] as const;
        appendRows(cache, layout, layer, tokensIn(dense, layout), data);
      }
      this.#letGo();
    }
    this.#phase = 'between';
    return true;
  }

  /** Compresses what the last call gave, one layer at a time, unless another call begins meanwhile. */
  #compressed(): Promise<void> {
    this.#settling ??= this.#compressDense().finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  async #compressDense(): Promise<void> {
    const dense = this.#dense;
    if (dense === undefined || this.#held === undefined) return;
    const { cache, layout } = this.#held;
    const overtaken = () => this.#dense !== dense || this.#phase !== 'ended';
    for (const layer of layout.layers.keys()) {
      await turn(undefined);
      if (overtaken()) return;
      const { key, value } = layerTensors(dense, layout, layer);
      const data = [await this.#fetch('key', key), await this.#fetch('value', value)] as const;
      if (overtaken()) return;
      appendRows(cache, layout, layer, tokensIn(dense, layout), data);
    }
    this.#letGo();
    this.#phase = 'between';
  }

  /** The tensor keeps its own memory until it is released: a call that has begun meanwhile may be reading it. */
  async #fetch(name: string, tensor: TensorLike): Promise<ArrayBufferView> {
    if (isInMemory(tensor)) return dataInMemory(name, tensor);
    this.#fetched.add(tensor);
    return downloaded(name, tensor, false);
  }

  #letGo(): void {
    const others = new Set(this.#others.values());
    for (const tensor of Object.values(this.#dense ?? {})) if (!others.has(tensor)) this.#release(tensor);
    this.#dense = undefined;
  }

  /** Gives back what a tensor has outside of JavaScript's memory; the rest is the garbage collector's. */
  #release(tensor: TensorLike): void {
    if (this.#fetched.delete(tensor) || !isInMemory(tensor)) tensor.dispose?.();
  }

  /** Cuts what travels along to fewer tokens. False, and nothing changed, where it only goes with all of them. */
  #cutOthers(tokens: number, kept: number): boolean {
    const cut = new Map<string, TensorLike>();
    for (const [name, tensor] of this.#others) {
      const kind = bearing(name, tensor.dims, tokens);
      if (kind === 'constant') continue;
      if (kind === 'state' || !isInMemory(tensor) || this.#Tensor === undefined) return false;
      cut.set(name, rawTensor(this.#Tensor, name, rawArray(name, tensor, dataInMemory(name, tensor)), tokens, kept));
    }
    for (const [name, tensor] of cut) this.#others.set(name, tensor);
    return true;
  }

  #forget(): void {
    this.#letGo();
    for (const tensor of this.#others.values()) this.#release(tensor);
    this.#others.clear();
    this.#held?.cache.dispose();
    this.#held = undefined;
    this.#ids = new Uint32Array(0);
    this.#phase = 'between';
    for (const name of Object.keys(this)) delete this[name];
  }

  #declareEntries(): void {
    const { layout } = this.#held ?? {};
    for (const [layer, prefix] of (layout?.layers ?? []).entries()) {
      for (const half of HALVES) {
        const name = `${prefix}.${half}`;
        this.#declare(name, () => this.#dense?.[name] ?? this.#thawed(layer, half));
      }
    }
    for (const name of this.#others.keys()) this.#declare(name, () => this.#others.get(name));
  }

  #declare(name: string, entry: () => TensorLike | undefined): void {
    if (Object.hasOwn(this, name)) return;
    const get = () => {
      if (this.#phase === 'asked') this.#phase = 'read';
      if (this.#phase === 'updated') {
        this.#phase = 'ended';
        // What goes wrong here goes wrong again where somebody waits for it: in settle(), or as the next call begins.
        this.#compressed().catch(() => {});
      }
      return entry();
    };
    Object.defineProperty(this, name, { configurable: true, enumerable: true, get });
  }

  #thawed(layer: number, half: 'key' | 'value'): TensorLike | undefined {
    if (this.#held === undefined || this.#Tensor === undefined) return undefined;
    const { cache, layout } = this.#held;
    return kvTensor(this.#Tensor, layout, cache[half](layer), cache.tokens);
  }
}
