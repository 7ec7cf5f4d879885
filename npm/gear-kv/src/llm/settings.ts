import { halfJson } from '../cache-options.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, type GearOptions, type Preset, refuseUnknown } from '../options.js';
import type { WorkProgress } from './progress.js';

/** How a conversation's cache is compressed: a preset, or options, those of keys and values apart where wanted. */
export type CacheChoice = Preset | (GearOptions & { key?: GearOptions; value?: GearOptions });

/** How the next token is chosen, and when to stop. */
export interface SamplingOptions {
  /** The most tokens to generate. Default 256. */
  maxTokens?: number;
  /** 0, the default, always takes the likeliest token; higher is more varied. */
  temperature?: number;
  /** Choose among this many of the likeliest tokens only. */
  topK?: number;
  /** Choose among the likeliest tokens that together have this probability. */
  topP?: number;
  /** Seed of the choice: the same seed gives the same text. */
  seed?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string | readonly string[];
}

/** Options of `generate`. */
export interface GenerateOptions extends SamplingOptions {
  /** Stops it, with the signal's reason. */
  signal?: AbortSignal;
  /**
   * Told now and then how many of the prompt's tokens have been taken in, of those that have to be computed, and once when
   * all of them are. What it throws ends the answer.
   */
  onPrompt?: (progress: WorkProgress) => void;
}

/** One turn of a conversation. */
export interface Message {
  /** `system`, `user` or `assistant`; templates of some models know more. */
  role: string;
  content: string;
}

/** Both halves of a cache's options as the core takes them. */
export interface CacheJson {
  readonly key: string;
  readonly value: string;
}

/** Checks the choice of a cache. */
export function cacheJson(choice: CacheChoice | undefined): CacheJson {
  const options = typeof choice === 'string' ? { preset: choice } : (choice ?? {});
  const { key = {}, value = {}, ...both } = checkedOptions<Exclude<CacheChoice, string>>('cache', options);
  return { key: halfJson('key', both, key), value: halfJson('value', both, value) };
}

const DEFAULT_MAX_TOKENS = 256;
const MOST = 0xffff_ffff;

/** Checks how to generate, and turns it into the JSON that the engine takes. */
export function samplingJson(given: GenerateOptions): string {
  refuseUnknown('generate', given, ['maxTokens', 'temperature', 'topK', 'topP', 'seed', 'stop', 'signal', 'onPrompt']);
  const { maxTokens = DEFAULT_MAX_TOKENS, temperature = 0, topK, topP, seed = 0, stop = [] } = given;
  checkNumber('maxTokens', maxTokens, 'a whole number of at least 1', (n) => whole(n) && n >= 1);
  checkNumber('temperature', temperature, 'a number of at least 0', (n) => n >= 0 && n <= 100);
  checkNumber('topK', topK, 'a whole number of at least 1', (n) => whole(n) && n >= 1);
  checkNumber('topP', topP, 'a number above 0 and at most 1', (n) => n > 0 && n <= 1);
  checkNumber('seed', seed, `a whole number from 0 to ${MOST}`, whole);
  const stops = typeof stop === 'string' ? [stop] : [...stop];
  if (!stops.every((text) => typeof text === 'string' && text !== '')) {
    throw new GearError('INVALID_OPTION', `stop is ${describe(stop)}; expected texts that are not empty`);
  }
  return JSON.stringify({ maxTokens, temperature, topK, topP, seed, stop: stops });
}

/** Checks that an option is a function where it is given. */
export function checkedListener<Listener>(name: string, listener: Listener | undefined): Listener | undefined {
  if (listener === undefined || typeof listener === 'function') return listener;
  throw new GearError('INVALID_OPTION', `${name} is ${describe(listener)}; expected a function`);
}

function whole(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= MOST;
}

function checkNumber(name: string, value: unknown, expected: string, fits: (value: number) => boolean): void {
  if (value === undefined || (typeof value === 'number' && fits(value))) return;
  throw new GearError('INVALID_OPTION', `${name} is ${describe(value)}; expected ${expected}`);
}

/** Checks a conversation. */
export function messagesJson(messages: readonly Message[]): string {
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new GearError('INVALID_OPTION', `messages is ${describe(messages)}; expected a list of { role, content }`);
  }
  for (const [index, message] of messages.entries()) {
    const { role, content } = (message ?? {}) as Partial<Message>;
    if (typeof role !== 'string' || typeof content !== 'string') {
      throw new GearError(
        'INVALID_OPTION',
        `messages[${index}] is ${describe(message)}; expected { role, content }, both text`,
      );
    }
  }
  return JSON.stringify(messages.map(({ role, content }) => ({ role, content })));
}
