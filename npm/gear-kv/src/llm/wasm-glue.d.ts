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
  export function perplexity(
    model: Model,
    ids: Uint32Array,
    keyOptionsJson: string,
    valueOptionsJson: string,
    stopped: () => boolean,
  ): string;
  export function evaluate(
    model: Model,
    windowsJson: string,
    presetsJson: string,
    stopped: () => boolean,
    progress: (done: number, total: number) => void,
  ): string;
  export class Answer {
    constructor(optionsJson: string);
    free(): void;
  }
  export class Session {
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
    release(): void;
  }
}
