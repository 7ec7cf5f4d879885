// The page: what is typed and chosen goes to the worker, what comes back is shown. Nothing is computed here.
import './style.css';
import type { Message, SessionStats } from 'gear-kv/llm';
import { Chart } from './chart.js';
import { type Chat, type ChatPreset, PRESETS, type Reply, type Request, type SavedChat } from './messages.js';
import { addTurn, follow, megabytes, page, showStats, showWork } from './page.js';

const ANSWERING = 'Answering …';

const worker = new Worker(new URL('./engine.worker.ts', import.meta.url), { type: 'module' });
const chart = new Chart(page.plot);

let messages: Message[] = [];
let answer: { text: string; body: HTMLElement } | undefined;
let saved: SavedChat | undefined;
let model: string | undefined;
/** What the worker keeps the conversation as. */
let kept: ChatPreset = 'gear-4';
let busy = true;
/** What had the keyboard when the work began: a field that is disabled meanwhile loses it. */
let focused: Element | null = null;

function send(request: Request): void {
  worker.postMessage(request);
}

/** Hands work to the worker; until its reply comes the page takes no other. */
function begin(request: Request, what: string): void {
  busy = true;
  focused = document.activeElement;
  page.status.classList.remove('error');
  page.status.textContent = what;
  if (what !== '') showWork();
  send(request);
  refresh();
}

function end(what: string, isError = false): void {
  busy = false;
  page.status.classList.toggle('error', isError);
  page.status.textContent = what;
  page.work.hidden = true;
  refresh();
  if (document.activeElement === document.body && focused instanceof HTMLElement) focused.focus();
  focused = null;
}

function preset(): ChatPreset {
  const chosen = page.presets.querySelector<HTMLInputElement>('input:checked')?.value;
  return PRESETS.find((name) => name === chosen) ?? 'gear-4';
}

function choose(name: ChatPreset): void {
  for (const input of page.presets.querySelectorAll('input')) input.checked = input.value === name;
}

function chat(): Chat {
  return { preset: preset(), messages };
}

function refresh(): void {
  const isReady = model !== undefined && !busy;
  page.drop.hidden = model !== undefined;
  page.log.hidden = model === undefined;
  page.file.disabled = busy;
  page.drop.classList.toggle('busy', busy);
  page.question.disabled = model === undefined;
  page.question.placeholder = model === undefined ? 'Load a model first' : 'Ask something';
  page.send.disabled = !isReady;
  page.send.hidden = answer !== undefined;
  page.stop.hidden = answer === undefined;
  page.presets.disabled = busy;
  page.save.disabled = !isReady || messages.length === 0;
  page.clear.disabled = !isReady || messages.length === 0;
  page.other.disabled = !isReady;
  // Read aloud once it is whole, not piece by piece.
  page.log.setAttribute('aria-busy', String(answer !== undefined));
  page.restore.disabled = !isReady || saved === undefined || saved.model !== model;
  page.saved.textContent =
    saved === undefined
      ? ''
      : `Saved here: ${saved.tokens} tokens as ${saved.preset}, ${megabytes(saved.byteLength)}` +
        (model !== undefined && saved.model !== model ? `, of the model ${saved.model}` : '');
}

function load(file: File | undefined): void {
  if (file === undefined || busy) return;
  begin({ kind: 'load', file }, `Loading ${file.name} …`);
}

function ask(): void {
  const text = page.question.value.trim();
  if (text === '' || busy || model === undefined) return;
  page.question.value = '';
  messages = [...messages, { role: 'user', content: text }];
  addTurn('user', text);
  answer = { text: '', body: addTurn('assistant', '') };
  const isByButton = document.activeElement === page.send;
  begin({ kind: 'ask', chat: chat() }, 'Reading …');
  if (isByButton) page.stop.focus();
}

/** Takes a question back that was not answered, for its author to change. */
function withdraw(): void {
  const text = messages.at(-1)?.content ?? '';
  answer = undefined;
  show(messages.slice(0, -1));
  if (page.question.value === '') page.question.value = text;
}

function mark({ byteLength, float16ByteLength }: SessionStats): void {
  chart.add({ cacheBytes: byteLength, float16Bytes: float16ByteLength, tokensPerSecond: undefined });
}

function show(all: readonly Message[]): void {
  messages = [...all];
  page.log.replaceChildren();
  for (const { role, content } of messages) addTurn(role, content);
}

function receive(reply: Reply): void {
  switch (reply.kind) {
    case 'found':
      saved = reply.chat;
      if (reply.model === undefined) end('');
      else begin({ kind: 'load kept' }, `Loading ${reply.model}, which is kept in this browser …`);
      break;
    case 'doing':
      page.status.textContent = reply.what;
      break;
    case 'read':
      showWork(reply.done, reply.total);
      break;
    case 'loaded': {
      const { layers, kvHeads, headDim, contextLength, name } = reply.info;
      model = reply.file;
      show([]);
      showStats(undefined);
      chart.clear();
      kept = preset();
      page.model.textContent =
        `${name ?? reply.file}: ${layers} layers, ${kvHeads} KV heads of ${headDim}, context ${contextLength}` +
        (reply.kept ? '' : '; too large to be kept for the next visit');
      end(`Loaded in ${reply.loadSeconds.toFixed(1)} s`);
      page.question.focus();
      break;
    }
    case 'piece': {
      const { stats, tokensPerSecond } = reply;
      if (answer !== undefined) {
        answer.text += reply.text;
        answer.body.textContent = answer.text;
        follow();
      }
      // Once: what is said aloud is what changes.
      if (page.status.textContent !== ANSWERING) page.status.textContent = ANSWERING;
      page.work.hidden = true;
      showStats(stats);
      if (tokensPerSecond !== undefined) page.speed.textContent = `${tokensPerSecond.toFixed(1)} tokens/s`;
      chart.add({ cacheBytes: stats.byteLength, float16Bytes: stats.float16ByteLength, tokensPerSecond });
      break;
    }
    case 'answered': {
      if (reply.stats !== undefined) showStats(reply.stats);
      if (reply.stopped && (answer?.text ?? '') === '') {
        withdraw();
        end('Stopped; your message is back in its field');
        page.question.focus();
        break;
      }
      messages = [...messages, { role: 'assistant', content: answer?.text ?? '' }];
      answer = undefined;
      const read = `${reply.promptTokens} tokens read in ${reply.promptSeconds.toFixed(1)} s`;
      end(reply.stopped ? 'Stopped' : read);
      page.question.focus();
      break;
    }
    case 'switched':
      kept = preset();
      showStats(reply.stats);
      if (reply.stats === undefined) chart.clear();
      else mark(reply.stats);
      end(reply.stats === undefined ? `The next chat is kept as ${kept}` : `The conversation is kept as ${kept} now`);
      break;
    case 'saved':
      saved = reply.chat;
      end('Saved in this browser');
      break;
    case 'restored':
      choose(reply.chat.preset);
      kept = reply.chat.preset;
      chart.clear();
      show(reply.chat.messages);
      showStats(reply.stats);
      end(`Brought back ${reply.stats.tokens} tokens, none of them computed again`);
      break;
    case 'failed':
      if (answer !== undefined) withdraw();
      if (reply.request === 'switch') choose(kept);
      end(`That did not work: ${reply.message}`, true);
      break;
  }
}

worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => receive(data));
worker.addEventListener('error', () => end('The engine could not be started in this browser', true));

page.file.addEventListener('change', () => load(page.file.files?.[0]));
page.composer.addEventListener('submit', (event) => {
  event.preventDefault();
  ask();
});
page.question.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
page.stop.addEventListener('click', () => send({ kind: 'stop' }));
addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && answer !== undefined) send({ kind: 'stop' });
});
page.presets.addEventListener('change', () => {
  if (model !== undefined) begin({ kind: 'switch', chat: chat() }, 'Changing the cache …');
});
page.save.addEventListener('click', () => begin({ kind: 'save', chat: chat() }, 'Saving …'));
page.restore.addEventListener('click', () => begin({ kind: 'restore' }, 'Bringing back the chat …'));
page.clear.addEventListener('click', () => {
  show([]);
  begin({ kind: 'switch', chat: chat() }, '');
});

page.other.addEventListener('click', () => {
  model = undefined;
  refresh();
  page.file.focus();
});

addEventListener('dragover', (event) => {
  event.preventDefault();
  page.drop.classList.add('over');
});
addEventListener('dragleave', () => page.drop.classList.remove('over'));
addEventListener('drop', (event) => {
  event.preventDefault();
  page.drop.classList.remove('over');
  load(event.dataTransfer?.files[0]);
});

refresh();
begin({ kind: 'look' }, '');
