// What the engine's WebAssembly glue exports, for compiling where that is not built: the codec alone does not need it.
declare module '*/gearkv_wasm_llm.js' {
  export default function instantiate(input: { module_or_path: object }): Promise<unknown>;
  export function lastPanic(): string | undefined;
  export function version(): string;
  export function simdLevel(): string;
  export function beginPrompt(session: Session, ids: Uint32Array): void;
  export function readPrompt(session: Session, milliseconds: number): Uint32Array;
  export function abandonPrompt(session: Session): void;
  export function next(session: Session, answer: Answer): string;
  export class Perplexity {
    constructor(model: Model, ids: Uint32Array, keyOptionsJson: string, valueOptionsJson: string);
    advance(milliseconds: number): Uint32Array;
    found(): string;
    free(): void;
  }
  export class Evaluation {
    constructor(model: Model, windowsJson: string, presetsJson: string);
    advance(milliseconds: number): Uint32Array;
    found(): string;
    free(): void;
  }
  export class LayerTuning {
    constructor(model: Model, windowsJson: string, keyOptionsJson: string, valueOptionsJson: string);
    advance(milliseconds: number): Uint32Array;
    found(): string;
    free(): void;
  }
  export class Answer {
    constructor(optionsJson: string);
    free(): void;
  }
  export class Session {
    free(): void;
  }
  export class Batch {
    read(milliseconds: number): Uint32Array;
    abandon(): void;
    next(): string;
    info(): string;
    release(): void;
  }
  export class Recompression {
    constructor(session: Session, keyOptionsJson: string, valueOptionsJson: string);
    advance(milliseconds: number): Uint32Array;
    finish(): Session;
    free(): void;
  }
  export class Model {
    static fromBytes(bytes: Uint8Array): Model;
    info(): string;
    tokenize(text: string, addBos: boolean): Uint32Array;
    detokenize(ids: Uint32Array): string;
    renderChat(messagesJson: string, addGenerationPrompt: boolean): string;
    session(keyOptionsJson: string, valueOptionsJson: string): import('./binding.js').SessionHandle;
    restore(bytes: Uint8Array): import('./binding.js').SessionHandle;
    batch(
      promptsJson: string,
      keyOptionsJson: string,
      valueOptionsJson: string,
      optionsJson: string,
    ): import('./binding.js').BatchHandle;
    release(): void;
  }
}
