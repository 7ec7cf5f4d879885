// The model and its sessions live here, so that the page stays responsive whatever they compute.
import init, { GearModel, type GearSession, type SessionStats } from 'gear-kv/llm';
import { read, write } from './disk.js';
import type { Chat, Reply, Request, SavedChat } from './messages.js';

const MODEL = 'model.gguf';
const MODEL_NAME = 'model.txt';
const CACHE = 'chat.gear';
const CHAT = 'chat.json';
const MAX_TOKENS = 400;

interface Loaded {
  readonly file: string;
  readonly model: GearModel;
}

let loaded: Loaded | undefined;
let session: GearSession | undefined;
let stopping: AbortController | undefined;

function reply(message: Reply): void {
  postMessage(message);
}

function required(): Loaded {
  if (loaded === undefined) throw new Error('load a model first');
  return loaded;
}

function sessionOf(chat: Chat): GearSession {
  session ??= required().model.session({ cache: chat.preset });
  return session;
}

function forget(): void {
  session?.dispose();
  session = undefined;
}

async function look(): Promise<void> {
  const [name, chat] = await Promise.all([read(MODEL_NAME), read(CHAT)]);
  reply({ kind: 'found', model: await name?.text(), chat: chat && (JSON.parse(await chat.text()) as SavedChat) });
}

async function load(file: File, name: string, isKept: boolean): Promise<void> {
  reply({ kind: 'doing', what: `Loading ${name} …` });
  const since = performance.now();
  await init();
  const model = await GearModel.load(await file.arrayBuffer());
  forget();
  loaded?.model.dispose();
  loaded = { file: name, model };
  const loadSeconds = (performance.now() - since) / 1000;
  const kept = isKept || (await keep(file, name));
  reply({ kind: 'loaded', file: name, info: model.info, loadSeconds, kept });
}

/** So that the next visit need not choose the file again. Says whether there was room. */
async function keep(file: File, name: string): Promise<boolean> {
  try {
    await write(MODEL, file);
    await write(MODEL_NAME, name);
    return true;
  } catch {
    return false;
  }
}

async function loadKept(): Promise<void> {
  const [file, name] = await Promise.all([read(MODEL), read(MODEL_NAME)]);
  if (file === undefined || name === undefined) throw new Error('the model is not kept here any more; choose its file');
  await load(file, await name.text(), true);
}

async function ask(chat: Chat): Promise<void> {
  const answering = sessionOf(chat);
  stopping = new AbortController();
  const { signal } = stopping;
  const onPrompt = ({ done, total }: { done: number; total: number }): void => reply({ kind: 'read', done, total });
  const generation = answering.generate(chat.messages, { maxTokens: MAX_TOKENS, signal, onPrompt });
  let pieces = 0;
  let since = 0;
  // Of the last piece: a session that was stopped in the middle of a step is busy for another moment.
  let stats: SessionStats | undefined;
  try {
    for await (const text of generation) {
      const now = performance.now();
      if (pieces === 0) since = now;
      stats = answering.stats();
      const tokensPerSecond = pieces === 0 ? undefined : (1000 * pieces) / (now - since);
      pieces += 1;
      reply({ kind: 'piece', text, stats, tokensPerSecond });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    stopping = undefined;
  }
  const { promptTokens = 0, promptSeconds = 0 } = generation.result ?? {};
  reply({ kind: 'answered', stopped: signal.aborted, promptTokens, promptSeconds, stats });
}

/** Keeps the conversation in a cache of another preset, made from the one there is. */
async function change(chat: Chat): Promise<void> {
  if (session === undefined || chat.messages.length === 0) {
    forget();
    reply({ kind: 'switched', stats: undefined });
    return;
  }
  const changed = await session.recompress({ cache: chat.preset });
  forget();
  session = changed;
  reply({ kind: 'switched', stats: changed.stats() });
}

async function save(chat: Chat): Promise<void> {
  const { file } = required();
  const bytes = sessionOf(chat).toBytes();
  const { tokens } = sessionOf(chat).stats();
  const saved: SavedChat = { ...chat, model: file, tokens, byteLength: bytes.length };
  await write(CACHE, new Uint8Array(bytes));
  await write(CHAT, JSON.stringify(saved));
  reply({ kind: 'saved', chat: saved });
}

async function restore(): Promise<void> {
  const { model } = required();
  const [cache, chat] = await Promise.all([read(CACHE), read(CHAT)]);
  if (cache === undefined || chat === undefined) throw new Error('no chat is saved in this browser');
  const saved = JSON.parse(await chat.text()) as SavedChat;
  const restored = model.restore(await cache.arrayBuffer());
  forget();
  session = restored;
  reply({ kind: 'restored', chat: saved, stats: restored.stats() });
}

async function serve(request: Request): Promise<void> {
  switch (request.kind) {
    case 'look':
      return look();
    case 'load':
      return load(request.file, request.file.name, false);
    case 'load kept':
      return loadKept();
    case 'ask':
      return ask(request.chat);
    case 'switch':
      return change(request.chat);
    case 'save':
      return save(request.chat);
    case 'restore':
      return restore();
    case 'stop':
      stopping?.abort();
  }
}

addEventListener('message', ({ data }: MessageEvent<Request>) => {
  serve(data).catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    reply({ kind: 'failed', request: data.kind, message });
  });
});
