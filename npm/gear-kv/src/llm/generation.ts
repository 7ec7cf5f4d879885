import { GearError } from '../errors.js';

/** How an answer came about. */
export interface GenerateResult {
  /** The whole answer. */
  readonly text: string;
  /** Its tokens. */
  readonly tokens: readonly number[];
  /** Why it ended: the model said so or a stop text came up, or `maxTokens` or the model's context was reached. */
  readonly reason: 'stop' | 'length';
  /** Tokens of the prompt that were computed for it; what the session held already is not among them. */
  readonly promptTokens: number;
  /** Seconds that took. */
  readonly promptSeconds: number;
  /** Seconds that the answer's tokens took; time that the loop spends between them is not counted. */
  readonly decodeSeconds: number;
}

/** One step of an answer. */
export interface Step {
  readonly token: number | null;
  readonly text: string;
  readonly reason: GenerateResult['reason'] | null;
}

/** The work behind an answer. */
export interface Answering {
  /** Takes the prompt in; how many of its tokens had to be computed. */
  begin(): Promise<number>;
  next(): Promise<Step>;
  /** Called once at the end, however it came. */
  end(): void;
}

/**
 * An answer on its way: iterate over it for pieces of text as they come, or await {@link Generation.text} for all of it.
 * Nothing is computed before somebody asks for it, and nothing after the loop is left.
 */
export class Generation implements AsyncIterable<string> {
  readonly #answering: Answering;
  #started = false;
  #result: GenerateResult | undefined;

  /** @internal */
  constructor(answering: Answering) {
    this.#answering = answering;
  }

  /** How it came about; undefined until it has ended. */
  get result(): GenerateResult | undefined {
    return this.#result;
  }

  /** The whole answer at once. */
  async text(): Promise<string> {
    let text = '';
    for await (const piece of this) text += piece;
    return text;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, undefined> {
    if (this.#started) {
      throw new GearError('INVALID_OPTION', 'this answer was iterated over already; call generate() again for another');
    }
    this.#started = true;
    const answering = this.#answering;
    try {
      let since = performance.now();
      const lap = (): number => {
        const before = since;
        since = performance.now();
        return (since - before) / 1000;
      };
      const promptTokens = await answering.begin();
      const promptSeconds = lap();
      const tokens: number[] = [];
      let text = '';
      let decodeSeconds = 0;
      for (;;) {
        lap();
        const step = await answering.next();
        decodeSeconds += lap();
        if (step.token !== null) tokens.push(step.token);
        text += step.text;
        if (step.reason !== null) {
          this.#result = { text, tokens, reason: step.reason, promptTokens, promptSeconds, decodeSeconds };
        }
        if (step.text !== '') yield step.text;
        if (step.reason !== null) return;
      }
    } finally {
      answering.end();
    }
  }
}
