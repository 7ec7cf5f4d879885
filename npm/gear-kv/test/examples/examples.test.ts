// What stands in examples/, each run as its reader would run it.

import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { peerFolder } from '../../../../benches/js/peers.js';
import { servedFiles } from '../../../../benches/js/static-files.js';
import { testWith, tinyModelFolder } from '../peers/tiny.js';
import { browser, DENO, exampleProject, listening, output } from './project.js';

const model = tinyModelFolder();
test.after.always(() => model.remove());

/** Where pictures of pages go, if anybody wants to see them. */
const SCREENSHOTS = process.env['GEARKV_SCREENSHOTS'];

interface Chats {
  [name: string]: { parked: boolean; bytes: number };
}

testWith('@huggingface/transformers')('chat server: an idle chat goes to a file, and goes on from there', async (t) => {
  const transformers = join(peerFolder('@huggingface/transformers'), 'node_modules/@huggingface/transformers');
  const project = exampleProject('chat-server', { '@huggingface/transformers': transformers });
  t.teardown(() => project.remove());
  const parked = join(project.path, 'parked');
  const start = (parkAfter: number) =>
    listening(['server.mjs'], project.path, {
      PORT: '0',
      MODEL: model.path,
      LOCAL_MODELS: '1',
      PARKED: parked,
      PARK_AFTER_MS: String(parkAfter),
      MAX_NEW_TOKENS: '6',
    });
  let server = await start(50);
  t.teardown(() => server.stop());
  const say = async (chat: string, body: string) => {
    const response = await fetch(`${server.url}/chats/${chat}`, { method: 'POST', body });
    if (!response.ok) throw new Error(await response.text());
    const [reused, prompt] = (response.headers.get('x-tokens-reused') ?? '').split(' of ').map(Number);
    return { answer: await response.text(), reused: reused ?? 0, prompt: prompt ?? 0 };
  };
  const chats = async () => (await (await fetch(`${server.url}/chats`)).json()) as Chats;
  const allParked = async (): Promise<Chats> => {
    for (;;) {
      const all = await chats();
      if (Object.values(all).every((chat) => chat.parked)) return all;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const words = Array.from({ length: 40 }, (_, index) => `w${1 + ((index * 7) % 60)}`).join(' ');
  const first = await say('one', words);
  t.is(first.reused, 0);
  t.regex(first.answer, /^(w\d+ ?)+/);
  await say('two', words);
  const [one] = Object.values(await allParked());
  t.deepEqual(readdirSync(parked).sort(), ['one.gear', 'two.gear']);
  t.is(statSync(join(parked, 'one.gear')).size, one?.bytes ?? 0);
  const second = await say('one', 'w1 w2');
  t.true(second.reused >= first.prompt, `${second.reused} of ${second.prompt} tokens reused after ${first.prompt}`);
  await allParked();
  await server.stop();
  // Another process, another day.
  server = await start(60_000);
  const third = await say('one', 'w3');
  t.true(third.reused >= second.prompt, `${third.reused} of ${third.prompt} tokens reused after ${second.prompt}`);
  t.deepEqual(
    Object.entries(await chats())
      .map(([name, chat]) => [name, chat.parked])
      .sort(),
    [
      ['one', false],
      ['two', true],
    ],
  );
  const asleep = Object.entries(await chats()).filter(([, chat]) => chat.parked);
  t.deepEqual(
    asleep.map(([name]) => name),
    ['two'],
  );
  t.is((await fetch(`${server.url}/chats/..%2F..%2Fetc`, { method: 'POST', body: 'x' })).status, 404);
});

testWith('@huggingface/transformers')(
  'browser: the text is computed once; the second visit finds it in the prompt cache',
  async (t) => {
    const peers = join(peerFolder('@huggingface/transformers'), 'node_modules');
    const libraries = ['@huggingface/transformers', 'onnxruntime-web'];
    const project = exampleProject('browser', Object.fromEntries(libraries.map((name) => [name, join(peers, name)])));
    t.teardown(() => project.remove());
    // The tiny model knows 256 positions, and words of its own.
    const text = Array.from({ length: 120 }, (_, index) => `w${1 + ((index * 11) % 60)}`).join(' ');
    writeFileSync(join(project.path, 'text.txt'), text);
    const server = await servedFiles({ '/tiny/': model.path, '/': project.path });
    t.teardown(() => server.stop());
    const profile = mkdtempSync(join(tmpdir(), 'gear-kv-browser-'));
    t.teardown(() => rmSync(profile, { recursive: true, force: true }));
    const visit = async (question: string): Promise<{ answer: string; note: string }> => {
      const context = await browser(profile);
      try {
        const page = await context.newPage();
        await page.goto(`${server.url}?model=tiny&local&tokens=6`);
        await page.locator('input:enabled').fill(question);
        await page.locator('button:enabled').click();
        await page.waitForFunction("/^(?!…)./.test(document.querySelector('output').value)");
        await page.waitForSelector('button:enabled');
        if (SCREENSHOTS !== undefined) await page.screenshot({ path: join(SCREENSHOTS, `${question}.png`) });
        const answer = (await page.evaluate("document.querySelector('output').value")) as string;
        return { answer, note: (await page.locator('#note').textContent()) ?? '' };
      } finally {
        await context.close();
      }
    };
    const first = await visit('w3 w4');
    t.regex(first.answer, /^w\d/);
    t.regex(first.note, /^The text was read by the model .* 120 of the prompt's 124 tokens/);
    // Another browser on the same profile: what is there is what the first one kept.
    const second = await visit('w3 w4');
    t.regex(second.note, /^The text was found in the prompt cache .* 120 of the prompt's 124 tokens/);
    t.is(second.answer, first.answer);
  },
);

test('Deno script: each run goes on from the file of the last one', async (t) => {
  const project = exampleProject('deno', {});
  t.teardown(() => project.remove());
  const run = () =>
    output(
      [
        ...DENO,
        'run',
        '--no-prompt',
        '--no-lock',
        '--cached-only',
        '--node-modules-dir=manual',
        '--allow-read',
        '--allow-write',
        '--allow-env',
        'notes.ts',
        'chat.gear',
      ],
      project.path,
      { DENO_NO_UPDATE_CHECK: '1', NO_COLOR: '1' },
    );
  t.regex(await run(), /^run 1: 100 tokens in \d+ bytes, not 102400; attention gave 256 numbers\n$/);
  t.regex(await run(), /^run 2: 200 tokens/);
});
