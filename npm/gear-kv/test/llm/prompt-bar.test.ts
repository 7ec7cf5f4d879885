// What a terminal shows while a prompt is taken in.
import test from 'ava';
import { PromptBar } from '../../src/cli/llm/prompt-bar.js';

/** What is written to standard error while `run` runs, on a terminal or not; `at` sets the clock, in milliseconds. */
function written(isTTY: boolean, run: (at: (milliseconds: number) => void) => void): string {
  const { stderr } = process;
  const [write, now, terminal] = [stderr.write, performance.now, stderr.isTTY];
  let [text, clock] = ['', 0];
  stderr.isTTY = isTTY;
  stderr.write = (piece: string | Uint8Array) => {
    text += piece;
    return true;
  };
  performance.now = () => clock;
  try {
    run((milliseconds) => {
      clock = milliseconds;
    });
  } finally {
    Object.assign(stderr, { write, isTTY: terminal });
    performance.now = now;
  }
  return text;
}

test.serial('a bar appears after a second, and is gone when the prompt is through or given up', (t) => {
  const text = written(true, (at) => {
    const { onPrompt } = new PromptBar();
    onPrompt({ done: 10, total: 100 });
    at(1500);
    onPrompt({ done: 50, total: 100 });
    at(2000);
    onPrompt({ done: 100, total: 100 });
  });
  t.is(text, `\r\u001b[K${'█'.repeat(15)}${'░'.repeat(15)} prompt: 50 of 100 tokens\r\u001b[K`);
  const stopped = written(true, (at) => {
    const bar = new PromptBar();
    at(1500);
    bar.onPrompt({ done: 1, total: 100 });
    bar.end();
    bar.end();
  });
  t.true(stopped.endsWith('1 of 100 tokens\r\u001b[K'));
});

test.serial('a short prompt, and one outside of a terminal, are taken in without a word', (t) => {
  const short = written(true, (at) => {
    const { onPrompt } = new PromptBar();
    at(900);
    onPrompt({ done: 50, total: 100 });
    onPrompt({ done: 100, total: 100 });
  });
  const piped = written(false, (at) => {
    const { onPrompt } = new PromptBar();
    at(5000);
    onPrompt({ done: 50, total: 100 });
    onPrompt({ done: 100, total: 100 });
  });
  t.deepEqual([short, piped], ['', '']);
});
