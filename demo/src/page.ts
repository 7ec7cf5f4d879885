// The elements of the page, by their ids in index.html.
import type { SessionStats } from 'gear-kv/llm';

function element<Kind extends HTMLElement>(id: string): Kind {
  return document.getElementById(id) as Kind;
}

export const page = {
  drop: element('drop'),
  file: element<HTMLInputElement>('file'),
  log: element('log'),
  status: element('status'),
  work: element('work'),
  progress: element<HTMLProgressElement>('progress'),
  count: element('count'),
  composer: element<HTMLFormElement>('composer'),
  question: element<HTMLTextAreaElement>('question'),
  send: element<HTMLButtonElement>('send'),
  stop: element<HTMLButtonElement>('stop'),
  presets: element<HTMLFieldSetElement>('presets'),
  plot: element('plot'),
  save: element<HTMLButtonElement>('save'),
  restore: element<HTMLButtonElement>('restore'),
  clear: element<HTMLButtonElement>('clear'),
  other: element<HTMLButtonElement>('other'),
  saved: element('saved'),
  model: element('model'),
  bytes: element('bytes'),
  float16Bytes: element('float16-bytes'),
  tokens: element('tokens'),
  speed: element('speed'),
};

/** Megabytes as people read them. */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 2 : 1)} MB`;
}

/** Shows what a cache takes; nothing where there is none. */
export function showStats(stats: SessionStats | undefined): void {
  const { bytes, float16Bytes, tokens, speed } = page;
  if (stats === undefined || stats.tokens === 0) {
    for (const cell of [bytes, float16Bytes, tokens, speed]) cell.textContent = '–';
    return;
  }
  const share = (100 * stats.byteLength) / stats.float16ByteLength;
  bytes.textContent = `${megabytes(stats.byteLength)} (${share.toFixed(0)} %)`;
  float16Bytes.textContent = megabytes(stats.float16ByteLength);
  tokens.textContent = String(stats.tokens);
}

/** Shows that something is being done; how much of it, where that is known. */
export function showWork(done?: number, total?: number): void {
  page.work.hidden = false;
  if (done === undefined || total === undefined) {
    page.progress.removeAttribute('value');
    page.count.textContent = '';
    return;
  }
  page.progress.max = total;
  page.progress.value = done;
  page.count.textContent = `${done} of ${total} tokens`;
}

let atEnd = true;
page.log.addEventListener('scroll', () => {
  atEnd = page.log.scrollHeight - page.log.scrollTop - page.log.clientHeight < 40;
});

/** Shows the end of the conversation, unless somebody is reading further up. */
export function follow(): void {
  if (atEnd) page.log.scrollTop = page.log.scrollHeight;
}

/** Adds a turn to the conversation; the result is where its text goes. */
export function addTurn(role: string, text: string): HTMLElement {
  const turn = document.createElement('article');
  turn.className = role;
  const who = document.createElement('h3');
  who.textContent = role === 'user' ? 'You' : 'Model';
  const body = document.createElement('p');
  body.textContent = text;
  turn.append(who, body);
  page.log.append(turn);
  page.log.scrollTop = page.log.scrollHeight;
  return body;
}
