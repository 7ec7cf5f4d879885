/// <reference lib="esnext.disposable" preserve="true" />
import { checkedSignal } from '../abort.js';
import { guarded } from '../backend/failure.js';
import { describe, GearError } from '../errors.js';
import { readFileBytes } from '../file.js';
import { byteArray } from '../kv-array.js';
import { checkedOptions, refuseUnknown } from '../options.js';
import { BatchGeneration } from './batch.js';
import type { ModelHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import { type EvalTexts, type EvaluateOptions, type Evaluation, type EvalWindows, evaluated } from './evaluation.js';
import type { Generation } from './generation.js';
import { type FetchModelOptions, fetchModel } from './model-file.js';
import { GearSession } from './session.js';
import {
  type CacheChoice,
  type CacheJson,
  cacheJson,
  checkedListener,
  type GenerateOptions,
  type Message,
  messagesJson,
  samplingJson,
} from './settings.js';
import { type LayerTuning, layersTuned, type TuneLayersOptions } from './tuning.js';

/** Options of {@link GearModel.load}. */
export interface LoadOptions extends FetchModelOptions {
  /** How the caches of this model's conversations are compressed. Default `gear-4`. */
  cache?: CacheChoice;
}

/** What a model is. */
export interface ModelInfo {
  /** As the file says. */
  readonly name: string | null;
  readonly architecture: string;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  /** The most tokens that it was made for. */
  readonly contextLength: number;
  readonly [field: string]: unknown;
}

/** What {@link GearModel.perplexity} found. */
export interface Perplexity {
  readonly perplexity: number;
  /** Tokens that were predicted. */
  readonly tokens: number;
  /** Bytes of the cache at the end. */
  readonly cacheBytes: number;
  /** Bytes that it would take as float16. */
  readonly float16Bytes: number;
}

/** A language model whose conversations keep their key-value cache compressed. */
export class GearModel {
  readonly #cache: CacheJson;
  readonly #info: ModelInfo;
  #handle: ModelHandle | undefined;

  private constructor(handle: ModelHandle, cache: CacheJson) {
    this.#handle = handle;
    this.#cache = cache;
    this.#info = JSON.parse(guarded(() => handle.info())) as ModelInfo;
  }

  /**
   * Loads a model from a GGUF file: its path, its URL (downloaded once, into `cacheDir`), or its bytes. Without a source:
   * SmolLM2-135M-Instruct, see {@link fetchModel}.
   *
   * @throws GearError `IO_FAILED`, `CORRUPT_DATA`, `UNSUPPORTED_MODEL`, `BACKEND_UNAVAILABLE`; the signal's reason.
   */
  static async load(source?: string | URL | Uint8Array | ArrayBuffer, given: LoadOptions = {}): Promise<GearModel> {
    const { cache: choice, ...fetching } = checkedOptions<LoadOptions>('the options of load', given);
    const cache = cacheJson(choice);
    const signal = checkedSignal(fetching.signal);
    const { Model } = engine();
    const load = await loader(source, fetching, Model);
    signal?.throwIfAborted();
    // Loading itself cannot be stopped; whoever aborts does not wait for it.
    const handle = await awaited(load, signal, (late) => late.release());
    // Not by its name: the bundler renames a class that names itself, and users would see that.
    const model = new this(handle, cache);
    try {
      // A misspelt option is found now and not at the first answer.
      model.session().dispose();
    } catch (error) {
      model.dispose();
      throw error;
    }
    return model;
  }

  /** What it is. */
  get info(): ModelInfo {
    return this.#info;
  }

  /** A text's tokens. `addBos` puts the mark of the beginning first, for models that have one. */
  tokenize(text: string, { addBos = true }: { addBos?: boolean } = {}): Uint32Array {
    if (typeof text !== 'string') throw new GearError('INVALID_OPTION', `text is ${describe(text)}; expected a string`);
    const handle = this.#live();
    return guarded(() => handle.tokenize(text, addBos));
  }

  /** The text of tokens. */
  detokenize(tokens: ArrayLike<number>): string {
    const handle = this.#live();
    const ids = Uint32Array.from(tokens);
    return guarded(() => handle.detokenize(ids));
  }

  /** A conversation in the model's own form, ready for its answer. */
  renderChat(messages: readonly Message[]): string {
    const handle = this.#live();
    const json = messagesJson(messages);
    return guarded(() => handle.renderChat(json, true));
  }

  /** A conversation that is still empty. `cache` overrides the model's. */
  session({ cache }: { cache?: CacheChoice } = {}): GearSession {
    const handle = this.#live();
    const { key, value } = cache === undefined ? this.#cache : cacheJson(cache);
    return new GearSession(
      () => this.#live(),
      guarded(() => handle.session(key, value)),
    );
  }

  /** The conversation that {@link GearSession.toBytes} wrote. @throws GearError `CORRUPT_DATA`, `MODEL_MISMATCH`. */
  restore(bytes: Uint8Array | ArrayBuffer): GearSession {
    const handle = this.#live();
    const view = byteArray('bytes', bytes);
    return new GearSession(
      () => this.#live(),
      guarded(() => handle.restore(view)),
    );
  }

  /** The conversation that {@link GearSession.save} wrote. @throws GearError as {@link restore}, and `IO_FAILED`. */
  async restoreFile(path: string | URL): Promise<GearSession> {
    return this.restore(await readFileBytes(path));
  }

  /**
   * Answers once. A list of messages is put into the model's chat template; a text is continued as it is.
   *
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH` where the context is full, `DISPOSED`; the signal's reason.
   */
  generate(input: string | readonly Message[], options: GenerateOptions & { cache?: CacheChoice } = {}): Generation {
    const { cache, ...sampling } = checkedOptions<typeof options>('the options of generate', options);
    const session = this.session(cache === undefined ? {} : { cache });
    try {
      return session.answer(input, sampling, () => session.dispose());
    } catch (error) {
      session.dispose();
      throw error;
    }
  }

  /**
   * Answers several inputs at once, each as {@link generate} answers one, on a cache of its own; answer `i` draws with `seed + i`.
   * A step reads the model's weights once for all answers, so that together they take less time than one after the other. An
   * input that is longer than the model's context has an empty answer with the reason `length`.
   *
   * @throws GearError `INVALID_OPTION`, `SHAPE_MISMATCH` for an input without tokens, `DISPOSED`; the signal's reason.
   */
  generateBatch(
    inputs: readonly (string | readonly Message[])[],
    options: GenerateOptions & { cache?: CacheChoice } = {},
  ): BatchGeneration {
    const { cache, ...given } = checkedOptions<typeof options>('the options of generateBatch', options);
    if (!Array.isArray(inputs) || inputs.length === 0) {
      throw new GearError(
        'INVALID_OPTION',
        `inputs is ${describe(inputs)}; expected texts or lists of messages, at least one`,
      );
    }
    const json = samplingJson(given);
    const checked = {
      ...given,
      signal: checkedSignal(given.signal),
      onPrompt: checkedListener('onPrompt', given.onPrompt),
    };
    const { key, value } = cache === undefined ? this.#cache : cacheJson(cache);
    const handle = this.#live();
    const prompts = inputs.map((input) =>
      // The template writes the mark of the beginning itself, where there is one.
      typeof input === 'string' ? this.tokenize(input) : this.tokenize(this.renderChat(input), { addBos: false }),
    );
    const promptsJson = JSON.stringify(prompts.map((prompt) => [...prompt]));
    const batch = guarded(() => handle.batch(promptsJson, key, value, json));
    const computed = prompts.map(({ length }) => (length > this.#info.contextLength ? 0 : length));
    return new BatchGeneration(batch, computed, checked);
  }

  /**
   * How well the model predicts a text while its cache is compressed: the exponential of the mean of the tokens' negative
   * log-likelihoods. Lower is better.
   */
  async perplexity(text: string, given: { cache?: CacheChoice; signal?: AbortSignal } = {}): Promise<Perplexity> {
    const options = checkedOptions<typeof given>('the options of perplexity', given);
    refuseUnknown('perplexity', options, ['cache', 'signal']);
    const { key, value } = options.cache === undefined ? this.#cache : cacheJson(options.cache);
    const signal = checkedSignal(options.signal);
    const ids = this.tokenize(text);
    const handle = this.#live();
    const json = await awaited((cancel) => engine().perplexityTask(handle, ids, key, value, cancel), signal);
    return JSON.parse(json) as Perplexity;
  }

  /**
   * Compares presets with a float16 cache: each window's prompt is taken in exactly and compressed, then its continuation is
   * forced token by token. Rows come in the order of `presets`. The first token of a continuation comes from the exact prompt, and is not compared.
   */
  evaluate(windows: EvalWindows | EvalTexts, options: EvaluateOptions): Promise<Evaluation> {
    return evaluated(this.#live(), windows, options);
  }

  /**
   * Finds how many bits each layer should have more or less than the others: every half of every layer is compressed alone, and what that does to
   * the model's answers weighs it. Which layers matter is the model's and not the text's, so that once is enough. Give what is found to {@link tunedCache}.
   *
   * @throws GearError `INVALID_OPTION`, `DISPOSED`; the signal's reason.
   */
  async tuneLayers(given: TuneLayersOptions = {}): Promise<LayerTuning> {
    const options = checkedOptions<TuneLayersOptions>('the options of tuneLayers', given);
    refuseUnknown('tuneLayers', options, ['cache', 'windows', 'signal', 'onProgress']);
    const cache = options.cache === undefined ? this.#cache : cacheJson(options.cache);
    return layersTuned(this.#live(), this, cache, options);
  }

  /** Gives the memory back, once no session uses it any more. Any later use throws `DISPOSED`. */
  dispose(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) guarded(() => handle.release());
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  #live(): ModelHandle {
    if (this.#handle === undefined) {
      throw new GearError('DISPOSED', 'this GearModel was disposed of; load it again');
    }
    return this.#handle;
  }
}

async function loader(
  source: unknown,
  fetching: FetchModelOptions,
  Model: ReturnType<typeof engine>['Model'],
): Promise<() => Promise<ModelHandle>> {
  if (source === undefined || typeof source === 'string' || source instanceof URL) {
    const path = await fetchModel(source, fetching);
    return () => Model.loadTask(path);
  }
  refuseUnknown('load', fetching, ['cacheDir', 'signal', 'onProgress', 'onMessage']);
  const bytes = byteArray('the model', source);
  return () => Model.fromBytesTask(bytes);
}
