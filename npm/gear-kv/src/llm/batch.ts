import { guarded } from '../backend/failure.js';
import { GearError } from '../errors.js';
import type { BatchHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import type { GenerateResult, Step } from './generation.js';
import { watched } from './progress.js';
import type { SessionTimings } from './session.js';
import type { GenerateOptions } from './settings.js';

/** A piece of one of the answers. */
export interface BatchPiece {
  /** Which of the inputs it answers. */
  readonly index: number;
  readonly text: string;
}

/** Sizes of a batch's caches, all answers together, and where the time went. */
export interface BatchStats {
  /** Answers, ended ones included. */
  readonly sequences: number;
  /** Answers that have not ended. */
  readonly active: number;
  /** Tokens held. */
  readonly tokens: number;
  /** Bytes of everything that the caches keep. */
  readonly byteLength: number;
  /** Bytes that the same tokens take as float16. */
  readonly float16ByteLength: number;
  /** Seconds since the batch began. */
  readonly timings: SessionTimings;
}

interface BatchStep extends Step {
  readonly index: number;
}

/** Who is told of it, and may stop it. */
interface Watching {
  readonly signal: AbortSignal | undefined;
  readonly onPrompt: GenerateOptions['onPrompt'] | undefined;
}

/** An answer while it grows. */
interface Growing {
  text: string;
  readonly tokens: number[];
  result: GenerateResult | undefined;
}

/**
 * Several answers on their way: iterate over them for pieces of text as they come, or await {@link texts}. Every step computes
 * the next token of each answer that has not ended, and reads the model's weights once for all of them. Nothing is computed
 * before somebody asks for it, and nothing after the loop is left; the caches are given back then.
 */
export class BatchGeneration implements AsyncIterable<BatchPiece> {
  readonly #handle: BatchHandle;
  /** Tokens of each prompt that are computed. */
  readonly #promptTokens: readonly number[];
  readonly #signal: AbortSignal | undefined;
  readonly #listen: Watching['onPrompt'];
  #started = false;
  #results: readonly GenerateResult[] | undefined;
  /** The last that is known, once the caches are given back. */
  #stats: BatchStats | undefined;
  /** Settles when the engine has let go of the batch, which is a moment after an abort. */
  #idle: Promise<unknown> = Promise.resolve();

  /** @internal */
  constructor(handle: BatchHandle, promptTokens: readonly number[], { signal, onPrompt }: Watching) {
    this.#handle = handle;
    this.#promptTokens = promptTokens;
    this.#signal = signal;
    this.#listen = onPrompt;
  }

  /** How each answer came about, in the order of the inputs; undefined until all have ended. */
  get results(): readonly GenerateResult[] | undefined {
    return this.#results;
  }

  /** The whole answers, in the order of the inputs. */
  async texts(): Promise<string[]> {
    const texts = this.#promptTokens.map(() => '');
    for await (const { index, text } of this) texts[index] += text;
    return texts;
  }

  /**
   * Sizes and times now; behind the loop, those at its end.
   *
   * @throws GearError `BUSY` while a step is computed.
   */
  stats(): BatchStats {
    return this.#stats ?? (JSON.parse(guarded(() => this.#handle.info())) as BatchStats);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<BatchPiece, void, undefined> {
    if (this.#started) {
      throw new GearError(
        'INVALID_OPTION',
        'this batch was iterated over already; call generateBatch() again for another',
      );
    }
    this.#started = true;
    try {
      const promptSeconds = await this.#read();
      let decodeSeconds = 0;
      const answers = this.#promptTokens.map((): Growing => ({ text: '', tokens: [], result: undefined }));
      for (let ended = 0; ended < answers.length; ) {
        const [steps, seconds] = await this.#step();
        decodeSeconds += seconds;
        for (const { index, token, text, reason } of steps) {
          const answer = answers[index] as Growing;
          if (token !== null) answer.tokens.push(token);
          answer.text += text;
          if (reason === null) continue;
          const promptTokens = this.#promptTokens[index] as number;
          const { text: whole, tokens } = answer;
          answer.result = { text: whole, tokens, reason, promptTokens, promptSeconds, decodeSeconds };
          ended += 1;
        }
        if (ended === answers.length) this.#results = answers.map(({ result }) => result as GenerateResult);
        for (const { index, text } of steps) {
          if (text !== '') yield { index, text };
        }
      }
    } finally {
      await this.#end();
    }
  }

  /** Takes the prompts in; the seconds that took. */
  async #read(): Promise<number> {
    const since = performance.now();
    await watched(
      (progress, signal) => this.#work((cancel) => engine().readBatchTask(this.#handle, cancel, progress), signal),
      this.#signal,
      this.#listen,
    );
    return (performance.now() - since) / 1000;
  }

  async #step(): Promise<[steps: BatchStep[], seconds: number]> {
    const since = performance.now();
    const json = await this.#work((cancel) => engine().nextBatchTask(this.#handle, cancel), this.#signal);
    return [JSON.parse(json) as BatchStep[], (performance.now() - since) / 1000];
  }

  #work<Result>(work: Parameters<typeof awaited<Result>>[0], signal: AbortSignal | undefined): Promise<Result> {
    return awaited((cancel) => {
      const running = work(cancel);
      this.#idle = running.catch(() => {});
      return running;
    }, signal);
  }

  async #end(): Promise<void> {
    await this.#idle;
    try {
      this.#stats = this.stats();
    } catch {
      // After a defect there are none; the error that ended the loop says more.
    }
    guarded(() => this.#handle.release());
  }
}
