import { checkedSignal } from '../abort.js';
import { GearError } from '../errors.js';
import type { ModelHandle } from './binding.js';
import { awaited, engine } from './engine.js';
import { checkedWindows, type EvalWindows } from './evaluation.js';
import { type WorkProgress, watched } from './progress.js';
import { type CacheChoice, type CacheJson, checkedListener, type GenerateOptions } from './settings.js';

/** Keys or values in a {@link LayerTuning}. */
export interface HalfTuning {
  /** Of each layer: bits of a code more than the others have on the average, to be given as the option `layerBits`. They add up to 0. */
  readonly layerBits: readonly number[];
  /** Of each layer: mean Kullback-Leibler divergence from a float16 cache, in nats, where it alone is compressed. */
  readonly kl: readonly number[];
}

/** What `tuneLayers` found. Its `key` and `value` can be given as they are to `tunedCache`, or their `layerBits` to any cache of the model. */
export interface LayerTuning {
  readonly key: HalfTuning;
  readonly value: HalfTuning;
}

/** How far a tuning has come: first texts are written, then every half of every layer is tried on them. */
export interface TuneProgress extends WorkProgress {
  readonly stage: 'writing' | 'trying';
}

/** Options of `tuneLayers`. */
export interface TuneLayersOptions {
  /** The cache whose bits are dealt out among layers: a preset or options. Default: the model's own. */
  cache?: CacheChoice;
  /** Texts to try it on. Default: what the model itself writes. */
  windows?: EvalWindows;
  /** Stops it, with the signal's reason. */
  signal?: AbortSignal;
  /** Told now and then how far it has come. */
  onProgress?: (progress: TuneProgress) => void;
}

/** What the model is asked to write where no texts are given. */
const TOPICS = [
  'Write a long story about a journey by train.',
  'Explain how a steam engine works.',
  'Write a dialogue between two friends about the sea.',
  'What is the history of trade?',
  'Write a Python program that sorts a list, and explain it.',
  'Describe the human heart.',
  'Write a letter to a newspaper about noise.',
  'List ten facts about whales and explain each of them.',
  'Tell a fairy tale about a fox.',
  'Explain how a bill becomes a law.',
  'How do plants grow? Answer in detail.',
  'Write an essay about music.',
  'Give a recipe for soup and explain every step.',
  'Describe a walk through an old city.',
  'Explain to a child what a computer is.',
  'Write a long poem about winter.',
];
const LONGEST_ANSWER = 400;
const WINDOWS = 4;
const PROMPT_TOKENS = 384;
const CONTINUATION_TOKENS = 192;

/** What a tuning needs of a model. */
export interface Writer {
  readonly info: { readonly contextLength: number };
  renderChat(messages: readonly { role: string; content: string }[]): string;
  generateBatch(
    inputs: readonly (string | readonly { role: string; content: string }[])[],
    options: GenerateOptions & { cache: CacheChoice },
  ): AsyncIterable<unknown>;
  tokenize(text: string): ArrayLike<number>;
}

/** A cache with the bits that a tuning found for its layers, on top of what is chosen for it. */
export function tunedCache(choice: CacheChoice, tuning: LayerTuning): CacheChoice {
  const { key = {}, value = {}, ...both } = typeof choice === 'string' ? { preset: choice } : choice;
  return {
    ...both,
    key: { ...key, layerBits: tuning.key.layerBits },
    value: { ...value, layerBits: tuning.value.layerBits },
  };
}

/** Has the engine try every half of every layer, on texts that the model writes where none are given. */
export async function layersTuned(
  handle: ModelHandle,
  writer: Writer,
  cache: CacheJson,
  options: TuneLayersOptions,
): Promise<LayerTuning> {
  const signal = checkedSignal(options.signal);
  const listen = checkedListener('onProgress', options.onProgress);
  const tell = (stage: TuneProgress['stage']) => listen && ((at: WorkProgress) => listen({ stage, ...at }));
  const windows = options.windows ? checkedWindows(options.windows) : await ownWindows(writer, signal, tell('writing'));
  const windowsJson = JSON.stringify(windows);
  const json = await watched(
    (progress, signal) =>
      awaited((cancel) => engine().tuneTask(handle, windowsJson, cache.key, cache.value, cancel, progress), signal),
    signal,
    tell('trying'),
  );
  return JSON.parse(json) as LayerTuning;
}

/** The topics as the model is asked about them: in its chat template, or, where it has none, as texts to be continued. */
function questions(writer: Writer): (string | { role: string; content: string }[])[] {
  const chats = TOPICS.map((content) => [{ role: 'user', content }]);
  try {
    for (const chat of chats) writer.renderChat(chat);
    return chats;
  } catch {
    return TOPICS;
  }
}

/** Windows of what the model writes when it is asked about this and that. */
async function ownWindows(
  writer: Writer,
  signal: AbortSignal | undefined,
  listen: ((progress: WorkProgress) => void) | undefined,
): Promise<EvalWindows> {
  const { contextLength } = writer.info;
  const scale = Math.min(1, (contextLength - 1) / (PROMPT_TOKENS + CONTINUATION_TOKENS));
  const [promptTokens, continuationTokens] = [PROMPT_TOKENS, CONTINUATION_TOKENS].map((n) => Math.floor(n * scale)) as [
    number,
    number,
  ];
  const length = promptTokens + continuationTokens + 1;
  const total = TOPICS.length * LONGEST_ANSWER;
  const texts = [...TOPICS];
  let done = 0;
  const batch = writer.generateBatch(questions(writer), {
    cache: 'float16',
    maxTokens: Math.min(LONGEST_ANSWER, contextLength - 32),
    temperature: 1,
    topP: 0.95,
    ...(signal && { signal }),
  });
  for await (const { index, text } of batch as AsyncIterable<{ index: number; text: string }>) {
    texts[index] += (texts[index] === TOPICS[index] ? '\n' : '') + text;
    done += 1;
    if (done % TOPICS.length === 0) listen?.({ done: Math.min(done, total - 1), total });
  }
  listen?.({ done: total, total });
  const ids = Array.from(writer.tokenize(texts.join('\n\n')));
  const count = Math.min(WINDOWS, Math.floor(ids.length / length));
  if (count === 0) {
    throw new GearError(
      'INVALID_OPTION',
      `the model wrote ${ids.length} tokens of its own, of which ${length} are needed; give windows of other texts`,
    );
  }
  // Spread over all that was written.
  const stride = count > 1 ? Math.floor((ids.length - length) / (count - 1)) : 0;
  const tokenIds = Array.from({ length: count }, (_, n) => ids.slice(n * stride, n * stride + length));
  return { promptTokens, continuationTokens, tokenIds };
}
