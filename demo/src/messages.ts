// What the page and the worker say to each other.
import type { Message, ModelInfo, SessionStats } from 'gear-kv/llm';

export const PRESETS = ['float16', 'gear-4', 'gear-2'] as const;
export type ChatPreset = (typeof PRESETS)[number];

/** A conversation as the page shows it. */
export interface Chat {
  readonly preset: ChatPreset;
  readonly messages: readonly Message[];
}

/** A chat on the disk, without its cache. */
export interface SavedChat extends Chat {
  /** File name of the model that it was held with. */
  readonly model: string;
  readonly tokens: number;
  readonly byteLength: number;
}

export type Request =
  | { kind: 'look' }
  | { kind: 'load'; file: File }
  | { kind: 'load kept' }
  | { kind: 'ask'; chat: Chat }
  | { kind: 'stop' }
  | { kind: 'switch'; chat: Chat }
  | { kind: 'save'; chat: Chat }
  | { kind: 'restore' };

export type Reply =
  | { kind: 'found'; model: string | undefined; chat: SavedChat | undefined }
  | { kind: 'doing'; what: string }
  | { kind: 'read'; done: number; total: number }
  | { kind: 'loaded'; file: string; info: ModelInfo; loadSeconds: number; kept: boolean }
  | { kind: 'piece'; text: string; stats: SessionStats; tokensPerSecond: number | undefined }
  | { kind: 'answered'; stopped: boolean; promptTokens: number; promptSeconds: number; stats: SessionStats | undefined }
  | { kind: 'switched'; stats: SessionStats | undefined }
  | { kind: 'saved'; chat: SavedChat }
  | { kind: 'restored'; chat: SavedChat; stats: SessionStats }
  | { kind: 'failed'; request: Request['kind']; message: string };
