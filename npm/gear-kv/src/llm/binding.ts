// What the engine's native module exports. This layer checks nothing; everything that reaches it has been validated.
import type { CancelHandle } from '../backend/binding.js';

/** A loaded model, on the Rust side. */
export interface ModelHandle {
  info(): string;
  tokenize(text: string, addBos: boolean): Uint32Array;
  detokenize(ids: Uint32Array): string;
  renderChat(messagesJson: string, addGenerationPrompt: boolean): string;
  session(keyOptionsJson: string, valueOptionsJson: string): SessionHandle;
  restore(bytes: Uint8Array): SessionHandle;
  /** `promptsJson` holds lists of tokens. */
  batch(promptsJson: string, keyOptionsJson: string, valueOptionsJson: string, optionsJson: string): BatchHandle;
  release(): void;
}

/** A conversation's tokens and cache, on the Rust side. */
export interface SessionHandle {
  info(): string;
  tokens(): Uint32Array;
  fork(): SessionHandle;
  truncate(tokens: number): void;
  clear(): void;
  toBytes(): Uint8Array;
  release(): void;
}

/** An answer in the making: sampler, decoder and stop texts. */
export type AnswerHandle = object;

/** Several answers in the making, each with its cache. */
export interface BatchHandle {
  info(): string;
  release(): void;
}

/** How far a task has come. */
export interface ProgressHandle {
  done(): number;
  total(): number;
}

/** The engine. */
export interface Engine {
  version(): string;
  simdLevel(): string;
  Cancel: new () => CancelHandle;
  Progress: new () => ProgressHandle;
  Answer: new (optionsJson: string) => AnswerHandle;
  Model: {
    loadTask(path: string): Promise<ModelHandle>;
    fromBytesTask(bytes: Uint8Array): Promise<ModelHandle>;
  };
  /** `progress` counts tokens; all of them only when it is done. */
  prefillTask(session: SessionHandle, ids: Uint32Array, cancel: CancelHandle, progress: ProgressHandle): Promise<void>;
  /** JSON of `{token, text, reason}`. */
  nextTask(session: SessionHandle, answer: AnswerHandle, cancel: CancelHandle): Promise<string>;
  /** The same tokens on another cache. */
  recompressTask(
    session: SessionHandle,
    keyOptionsJson: string,
    valueOptionsJson: string,
    cancel: CancelHandle,
  ): Promise<SessionHandle>;
  /** As `prefillTask`, of all prompts. */
  readBatchTask(batch: BatchHandle, cancel: CancelHandle, progress: ProgressHandle): Promise<void>;
  /** JSON of `[{index, token, text, reason}, …]`, one for each answer that has not ended. */
  nextBatchTask(batch: BatchHandle, cancel: CancelHandle): Promise<string>;
  perplexityTask(
    model: ModelHandle,
    ids: Uint32Array,
    keyOptionsJson: string,
    valueOptionsJson: string,
    cancel: CancelHandle,
  ): Promise<string>;
  /** JSON of `{key, value}`, each `{layerBits, kl}`. `progress` counts windows, once for each half of each layer and once for float16. */
  tuneTask(
    model: ModelHandle,
    windowsJson: string,
    keyOptionsJson: string,
    valueOptionsJson: string,
    cancel: CancelHandle,
    progress: ProgressHandle,
  ): Promise<string>;
  evalTask(
    model: ModelHandle,
    windowsJson: string,
    presetsJson: string,
    cancel: CancelHandle,
    progress: ProgressHandle,
  ): Promise<string>;
  /** JSON of `{from, to, fileBytes}`. `progress` counts tensors. Not in WebAssembly, which has no files. */
  requantizeTask?(
    from: string,
    to: string,
    weights: string,
    cancel: CancelHandle,
    progress: ProgressHandle,
  ): Promise<string>;
}
