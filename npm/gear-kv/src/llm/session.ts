/// <reference lib="esnext.disposable" preserve="true" />
import { checkedSignal } from '../abort.js';
import type { CancelHandle } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import { GearError } from '../errors.js';
import { saveFile } from '../file.js';
import { checkedOptions, refuseUnknown } from '../options.js';
import { checkedCount } from '../shape.js';
import type { ModelHandle, ProgressHandle, SessionHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import { type Answering, Generation, type Step } from './generation.js';
import { watched } from './progress.js';
import {
  type CacheChoice,
  cacheJson,
  checkedListener,
  type GenerateOptions,
  type Message,
  messagesJson,
  samplingJson,
} from './settings.js';

/** Sizes of a session's cache. */
export interface SessionStats {
  /** Tokens held. */
  readonly tokens: number;
  /** Bytes of everything that the cache keeps. */
  readonly byteLength: number;
  /** Bytes that the same tokens take as float16. */
  readonly float16ByteLength: number;
}

/** Where the engine's time went since the session began, in seconds. */
export interface SessionTimings {
  /** Attention on the compressed cache. */
  readonly attention: number;
  /** Putting tokens into the cache, compressing them included. */
  readonly compression: number;
  /** Products with the model's weights. */
  readonly matmul: number;
  /** The rest of the model's layers. */
  readonly other: number;
}

/**
 * A conversation with its compressed cache. It can be parked for as long as you like, forked, saved and restored; what it
 * holds already is not computed again.
 */
export class GearSession {
  readonly #model: () => ModelHandle;
  #handle: SessionHandle | undefined;
  /** Settles when the engine has let go of the session, which is a moment after an abort. */
  #idle: Promise<unknown> = Promise.resolve();
  #answering: Answering | undefined;

  /** @internal */
  constructor(model: () => ModelHandle, handle: SessionHandle) {
    this.#model = model;
    this.#handle = handle;
  }

  /** The tokens held. @throws GearError `BUSY` while a step of an answer is computed. */
  get tokens(): Uint32Array {
    const handle = this.#live();
    return guarded(() => handle.tokens());
  }

  /** Sizes of the cache. @throws GearError `BUSY` while a step of an answer is computed. */
  stats(): SessionStats {
    const { tokens, byteLength, float16ByteLength } = this.#info();
    return { tokens, byteLength, float16ByteLength };
  }

  /** Where the time went. @throws GearError `BUSY` while a step of an answer is computed. */
  timings(): SessionTimings {
    return this.#info().timings;
  }

  /**
   * Answers. A list of messages is the whole conversation so far: the part of it that the session holds is found and kept.
   * A text is not put into any template; it continues what is there.
   *
   * @throws GearError `INVALID_OPTION`, `OUT_OF_RANGE` where the context is full, `BUSY` where another answer is not at its
   * end, `DISPOSED`; the signal's reason.
   */
  generate(input: string | readonly Message[], given: GenerateOptions = {}): Generation {
    return this.answer(input, given, () => {});
  }

  /**
   * Takes tokens in behind those that it holds, without an answer.
   *
   * @throws GearError `OUT_OF_RANGE` where the context is full, `BUSY`, `DISPOSED`; the signal's reason, which leaves the session with what it had taken in.
   */
  async read(tokens: ArrayLike<number>, given: Pick<GenerateOptions, 'signal' | 'onPrompt'> = {}): Promise<void> {
    const options = checkedOptions<typeof given>('the options of read', given);
    refuseUnknown('read', options, ['signal', 'onPrompt']);
    const signal = checkedSignal(options.signal);
    const listen = checkedListener('onPrompt', options.onPrompt);
    this.#live();
    await this.#idle;
    await this.#prefill(Uint32Array.from(tokens), signal, listen);
  }

  /** An answer to tokens that come behind those that it holds. @throws GearError as {@link generate}. */
  goOn(tokens: ArrayLike<number>, options: GenerateOptions = {}): Generation {
    return this.answer(Uint32Array.from(tokens), options, () => {});
  }

  /** {@link generate}, and something to be done at the end. @internal */
  answer(input: string | readonly Message[] | Uint32Array, given: GenerateOptions, finished: () => void): Generation {
    const options = checkedOptions<GenerateOptions>('the options of generate', given);
    const json = samplingJson(options);
    const signal = checkedSignal(options.signal);
    const listen = checkedListener('onPrompt', options.onPrompt);
    const prompt = this.#promptOf(input);
    this.#live();
    const answer = guarded(() => new (engine().Answer)(json));
    const answering: Answering = {
      begin: async () => {
        if (this.#answering !== undefined) {
          throw new GearError(
            'BUSY',
            'the session is answering already; finish that loop, or leave it, before the next',
          );
        }
        this.#answering = answering;
        await this.#idle;
        const ids = prompt();
        await this.#prefill(ids, signal, listen);
        return ids.length;
      },
      next: async () => {
        const json = await this.#work((handle, cancel) => engine().nextTask(handle, answer, cancel), signal);
        return JSON.parse(json) as Step;
      },
      end: () => {
        if (this.#answering === answering) this.#answering = undefined;
        finished();
      },
    };
    return new Generation(answering);
  }

  /** A second session with the same content, which goes its own way from here. Compressed segments are shared. */
  fork(): GearSession {
    const handle = this.#live();
    return sessionOf(
      this.#model,
      guarded(() => handle.fork()),
    );
  }

  /**
   * The same tokens on another cache, made from what this one holds: nothing is computed again, and what was lost when this
   * one was compressed stays lost. The new session goes its own way.
   *
   * @throws GearError `INVALID_OPTION`, `BUSY` while a step of an answer is computed, `DISPOSED`; the signal's reason.
   */
  async recompress(given: { cache: CacheChoice; signal?: AbortSignal }): Promise<GearSession> {
    const options = checkedOptions<typeof given>('the options of recompress', given);
    refuseUnknown('recompress', options, ['cache', 'signal']);
    if (options.cache === undefined) {
      throw new GearError('INVALID_OPTION', "cache is undefined; expected a preset or options, such as 'gear-2'");
    }
    const { key, value } = cacheJson(options.cache);
    const signal = checkedSignal(options.signal);
    this.#live();
    await this.#idle;
    const handle = await this.#work(
      (handle, cancel) => engine().recompressTask(handle, key, value, cancel),
      signal,
      (late) => late.release(),
    );
    return sessionOf(this.#model, handle);
  }

  /** Forgets every token from `tokens` on. @throws GearError `SHAPE_MISMATCH`, `BUSY`. */
  truncate(tokens: number): void {
    const handle = this.#live();
    const count = checkedCount('tokens', tokens, 0);
    guarded(() => handle.truncate(count));
  }

  /** Forgets everything. @throws GearError `BUSY`. */
  clear(): void {
    const handle = this.#live();
    guarded(() => handle.clear());
  }

  /** The conversation's tokens and cache, for `GearModel.restore`. @throws GearError `BUSY`. */
  toBytes(): Uint8Array {
    const handle = this.#live();
    return guarded(() => handle.toBytes());
  }

  /** Writes {@link toBytes} to a file, whole or not at all. @throws GearError `IO_FAILED`, `BUSY`. */
  async save(path: string | URL): Promise<void> {
    await saveFile(path, this.toBytes());
  }

  /** Gives the memory back. A step that is under way is not disturbed; anything later throws `DISPOSED`. */
  dispose(): void {
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle !== undefined) void this.#idle.then(() => guarded(() => handle.release()));
  }

  /** The same as {@link dispose}, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  async #work<Result>(
    work: (handle: SessionHandle, cancel: CancelHandle) => Promise<Result>,
    signal: AbortSignal | undefined,
    discard?: (late: Result) => void,
  ): Promise<Result> {
    const start = (cancel: CancelHandle): Promise<Result> => {
      const running = work(this.#live(), cancel);
      // Work that was refused because of other work does not mean that the other one has ended.
      this.#idle = Promise.allSettled([this.#idle, running]);
      return running;
    };
    return awaited(start, signal, discard);
  }

  /** What has to be computed for an input, once the session is free. */
  #promptOf(input: string | readonly Message[] | Uint32Array): () => Uint32Array {
    if (typeof input === 'string') return () => this.#continuation(input);
    if (input instanceof Uint32Array) return () => input;
    const json = messagesJson(input);
    return () => this.#conversation(json);
  }

  #prefill(
    ids: Uint32Array,
    signal: AbortSignal | undefined,
    listen: GenerateOptions['onPrompt'] | undefined,
  ): Promise<void> {
    const read = (progress: ProgressHandle, signal: AbortSignal | undefined): Promise<void> =>
      this.#work((handle, cancel) => engine().prefillTask(handle, ids, cancel, progress), signal);
    return watched(read, signal, listen);
  }

  #continuation(text: string): Uint32Array {
    const model = this.#model();
    const isFirst = this.tokens.length === 0;
    return guarded(() => model.tokenize(text, isFirst));
  }

  /** Keeps what the session and the conversation have in common, and returns the rest. */
  #conversation(json: string): Uint32Array {
    const model = this.#model();
    // The template writes the mark of the beginning itself, where there is one.
    const wanted = guarded(() => model.tokenize(model.renderChat(json, true), false));
    const held = this.tokens;
    let common = 0;
    while (common < held.length && held[common] === wanted[common]) common += 1;
    // At least one token has to be computed: the next one follows from it.
    const kept = Math.min(common, wanted.length - 1);
    if (kept < held.length) this.truncate(kept);
    return wanted.subarray(kept);
  }

  #info(): SessionStats & { timings: SessionTimings } {
    const handle = this.#live();
    return JSON.parse(guarded(() => handle.info()));
  }

  #live(): SessionHandle {
    if (this.#handle === undefined) {
      throw new GearError('DISPOSED', 'this GearSession was disposed of; fork() it before, or begin a new one');
    }
    return this.#handle;
  }
}

// Outside of the class: the bundler renames a class that names itself in its body, and users would see that.
function sessionOf(model: () => ModelHandle, handle: SessionHandle): GearSession {
  return new GearSession(model, handle);
}
