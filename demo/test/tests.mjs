// What a visitor does, in this order, and what the page must show.

import assert from 'node:assert/strict';

const LONG = { timeout: 180_000 };
const PHONE = { width: 360, height: 740 };
/** Work on the page's own thread would take seconds: loading, reading a prompt. */
const LONGEST_FREEZE_MS = 700;
const QUESTION =
  'Tell me a long story about a lighthouse keeper who finds a message in a bottle. ' +
  'Describe the sea, the storm, the bottle, what is written in the message, and what the keeper does next.';

const says = (page, pattern) =>
  page.waitForFunction(
    (source) => new RegExp(source).test(document.querySelector('#status').textContent),
    pattern.source,
    LONG,
  );
const megabytes = async (page, id) => Number.parseFloat(await page.textContent(id));
const turns = (page) => page.locator('#log article').count();
const lastTurn = (page) => page.locator('#log article p').last().textContent();

async function readsWithoutScrollingSideways(page) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `the page is ${content} px wide in a window of ${window} px`);
}

export const tests = [
  [
    'a page without a model asks for one',
    async ({ page, address, picture }) => {
      await page.goto(address);
      await page.locator('#file:enabled').waitFor({ state: 'attached', ...LONG });
      assert.ok(await page.isVisible('#drop'));
      assert.ok(await page.isDisabled('#send'));
      await picture('empty-wide');
    },
  ],
  [
    'a file that is no model is refused, and another can be chosen',
    async ({ page }) => {
      await page.setInputFiles('#file', {
        name: 'no.gguf',
        mimeType: '',
        buffer: Buffer.from('GGUF and nothing else'),
      });
      await says(page, /That did not work: /);
      assert.ok(await page.isVisible('#drop'));
    },
  ],
  [
    'a real model loads',
    async ({ page, model }) => {
      await page.setInputFiles('#file', model);
      await says(page, /^Loaded in /);
      assert.match(await page.textContent('#model'), /30 layers, 3 KV heads of 64/);
      assert.ok(await page.isEnabled('#send'));
    },
  ],
  [
    'Escape stops a long message while it is read, and gives it back',
    async ({ page }) => {
      const message = 'The keeper climbed the steps and wrote down the weather. '.repeat(130);
      await page.fill('#question', message);
      await page.keyboard.press('Enter');
      await page.waitForFunction(() => /^\d+ of 1\d{3} tokens$/.test(document.querySelector('#count').textContent));
      assert.ok(await page.isVisible('#progress'));
      await page.keyboard.press('Escape');
      await says(page, /^Stopped; your message is back/);
      assert.equal(await page.inputValue('#question'), message.trim());
      assert.equal(await turns(page), 0);
      assert.equal(await page.evaluate(() => document.activeElement.id), 'question');
      await page.fill('#question', '');
    },
  ],
  [
    'a question by keyboard is answered in pieces, with the cache in figures and in a plot',
    async ({ page, picture }) => {
      assert.equal(await page.evaluate(() => document.activeElement.id), 'question');
      await page.keyboard.type(QUESTION);
      await page.keyboard.press('Enter');
      await says(page, /^Answering/);
      const early = await lastTurn(page);
      await page.waitForFunction(() => Number(document.querySelector('#tokens').textContent) > 200, undefined, LONG);
      const late = await lastTurn(page);
      assert.ok(late.length > early.length && late.startsWith(early), `${early} … ${late}`);
      assert.match(await page.textContent('#speed'), /^\d+\.\d tokens\/s$/);
      const [cache, float16] = [await megabytes(page, '#bytes'), await megabytes(page, '#float16-bytes')];
      assert.ok(cache < 0.8 * float16, `gear-4 takes ${cache} MB of ${float16} MB`);
      assert.ok(await page.locator('#plot canvas').isVisible());
      await picture('chat-wide');
    },
  ],
  [
    'Escape stops an answer, and what was said stays',
    async ({ page }) => {
      await page.keyboard.press('Escape');
      await says(page, /^(Stopped|\d+ tokens read)/);
      assert.equal(await turns(page), 2);
      assert.ok((await lastTurn(page)).length > 100);
      assert.ok(await page.isEnabled('#send'));
    },
  ],
  [
    'other presets hold the same conversation in more and in fewer bytes',
    async ({ page }) => {
      const bytes = {};
      const tokens = new Set();
      for (const preset of ['float16', 'gear-4', 'gear-2']) {
        const radio = page.locator(`input[value="${preset}"]`);
        if (!(await radio.isChecked())) {
          await radio.check();
          await says(page, new RegExp(`^The conversation is kept as ${preset} now$`));
        }
        // By keyboard one goes on from where one is.
        assert.equal(await page.evaluate(() => document.activeElement.name), 'preset');
        tokens.add(await page.textContent('#tokens'));
        bytes[preset] = await megabytes(page, '#bytes');
      }
      assert.equal(tokens.size, 1, [...tokens].join());
      assert.ok(bytes['gear-4'] < 0.6 * bytes.float16 && bytes['gear-2'] < bytes['gear-4'], JSON.stringify(bytes));
    },
  ],
  [
    'the page never froze while the engine worked',
    async ({ page }) => {
      const freeze = await page.evaluate(() => globalThis.longestFreezeMs);
      assert.ok(freeze < LONGEST_FREEZE_MS, `it froze for ${freeze.toFixed(0)} ms`);
    },
  ],
  [
    'a chat is saved, and is back after a reload without being computed again',
    async ({ page }) => {
      const said = await page.locator('#log').textContent();
      const tokens = await page.textContent('#tokens');
      await page.click('#save');
      await says(page, /^Saved/);
      await page.reload();
      await says(page, /^Loaded in /);
      assert.match(await page.textContent('#saved'), /tokens as gear-2/);
      await page.click('#restore');
      await says(page, /^Brought back/);
      assert.equal(await page.locator('#log').textContent(), said);
      assert.equal(await page.textContent('#tokens'), tokens);
      assert.ok(await page.isChecked('input[value="gear-2"]'));
    },
  ],
  [
    'a question after it reads little more than itself',
    async ({ page, picture }) => {
      await page.fill('#question', 'What is the name of the keeper?');
      await page.click('#send');
      await says(page, /^Answering/);
      await page.setViewportSize(PHONE);
      await readsWithoutScrollingSideways(page);
      await says(page, /tokens read in/);
      await picture('chat-narrow');
      const read = Number.parseInt(await page.textContent('#status'), 10);
      assert.ok(read < 40, `${read} tokens were read`);
      assert.equal(await turns(page), 4);
    },
  ],
  [
    'a new chat on a phone begins with an empty cache',
    async ({ page, picture }) => {
      await page.click('#clear');
      await says(page, /^The next chat is kept as gear-2$/);
      assert.equal(await turns(page), 0);
      assert.equal(await page.textContent('#bytes'), '–');
      await readsWithoutScrollingSideways(page);
      await picture('empty-narrow');
    },
  ],
  [
    'nothing was asked of any other server, and nothing failed unseen',
    ({ outside, problems }) => {
      assert.deepEqual(outside, []);
      assert.deepEqual(problems, []);
    },
  ],
];
