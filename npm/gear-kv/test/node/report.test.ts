// A report as a browser shows it, and its Markdown as text.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import type { Browser } from 'playwright-core';
import { draw } from '../../src/experiment/report/draw.js';
import type { Findings, Plot } from '../../src/experiment/report/findings.js';
import { cellText, columnText, durationText, heading } from '../../src/experiment/report/format.js';
import { writeReport } from '../../src/experiment/report/report.js';
import { EMPTY, FULL, HOSTILE, HOSTILE_FINDINGS, SPARSE } from './report-findings.js';

const WIDTHS = [360, 1280];
let browser: Browser;
const folders: string[] = [];

test.before(async () => {
  // Plain JavaScript, which has no types: not a name that the compiler looks up.
  const from = (path: string): Promise<unknown> => import(new URL(path, import.meta.url).href);
  const { chromiumPath } = (await from('../../../../scripts/setup/browser.mjs')) as {
    chromiumPath(): string | undefined;
  };
  const { FLAGS } = (await from('../runners/chromium.mjs')) as { FLAGS: string[] };
  const executablePath = chromiumPath();
  if (executablePath === undefined)
    throw new Error('there is no Chromium; npm test installs one, or set CHROMIUM_PATH');
  const { chromium } = await import('playwright-core');
  browser = await chromium.launch({ executablePath, args: FLAGS, headless: true });
});

test.after.always(async () => {
  await browser?.close();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

async function written(findings: Findings) {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-report-'));
  folders.push(folder);
  const directory = join(folder, 'made', 'by-it');
  const files = await writeReport(directory, findings);
  return { ...files, directory, names: readdirSync(directory).sort() };
}

/** Opens a page at every width, in both schemes, and says what it asked for, what it complained of and what stuck out. */
async function look(file: string) {
  const seen = { requests: [] as string[], complaints: [] as string[], overflow: [] as string[], dialogs: 0 };
  for (const colorScheme of ['light', 'dark'] as const) {
    const context = await browser.newContext({ colorScheme });
    const page = await context.newPage();
    page.on('request', (request) => seen.requests.push(request.url()));
    page.on('console', (message) => seen.complaints.push(message.text()));
    page.on('pageerror', (error) => seen.complaints.push(String(error)));
    page.on('dialog', (dialog) => {
      seen.dialogs++;
      void dialog.dismiss();
    });
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: 900 });
      await page.goto(pathToFileURL(file).href);
      const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      if ((content ?? 0) > (window ?? 0)) seen.overflow.push(`${content} px on a page of ${window}`);
    }
    await context.close();
  }
  const own = pathToFileURL(file).href;
  return { ...seen, requests: seen.requests.filter((url) => url !== own && url !== 'data:,') };
}

const QUIET = { requests: [], complaints: [], overflow: [], dialogs: 0 };

test('a page asks for nothing, complains of nothing and fits its window', async (t) => {
  for (const findings of [FULL, EMPTY, SPARSE, HOSTILE_FINDINGS]) {
    const { html } = await written(findings);
    t.deepEqual(await look(html), QUIET, findings.title);
  }
});

test('everything that was found is on the page, in its order', async (t) => {
  const { html } = await written(FULL);
  const page = await browser.newPage();
  await page.goto(pathToFileURL(html).href);
  const text = await page.evaluate(() => document.body.textContent ?? '');
  const places = [
    FULL.question,
    FULL.summary[0],
    FULL.tables[0]?.title,
    'SmolLM2 135M',
    'GSM8k exemplars',
    'avx512',
    FULL.command,
    FULL.remarks[1],
  ].map((words) => text.indexOf(words as string));
  t.false(places.includes(-1));
  t.deepEqual(
    places,
    places.toSorted((a, b) => a - b),
  );
  t.is(await page.locator('.theirs .badge').textContent(), 'not measured here');
  t.is(await page.locator('.theirs a').first().getAttribute('href'), 'https://arxiv.org/abs/2403.05527');
  t.is(await page.locator('#nothing, .best').first().textContent(), '43.2 %');
  await page.getByRole('button').click();
  await page.getByText(/Copied|Selected/).waitFor();
  await page.close();
});

test('what comes from files is text', async (t) => {
  const { html, markdown, names } = await written(HOSTILE_FINDINGS);
  const page = await browser.newPage();
  await page.goto(pathToFileURL(html).href);
  t.is(await page.title(), HOSTILE);
  t.is(await page.locator('h1').textContent(), HOSTILE);
  t.is(await page.locator('img, script[src], [onerror], [onmouseover], iframe, object').count(), 0);
  t.is(await page.locator('script').count(), 1);
  for (const href of await page.locator('a').evaluateAll((links) => links.map((link) => link.getAttribute('href'))))
    t.regex(href ?? '', /^https:/);
  await page.close();
  const text = readFileSync(markdown, 'utf8');
  const command = text.slice(text.indexOf('\n`````'), text.lastIndexOf('`````'));
  const outside = text.replace(command, '').replace(/^!\[.*\]\([a-z0-9-]+\.svg\)$/gm, '');
  t.true(command.includes('````'));
  t.notRegex(outside, /(?<!\\)<(?!https:)/);
  t.notRegex(outside, /(?<!\\)\[/);
  t.notRegex(outside, /^# A heading|^- a list/m);
  for (const name of names) t.regex(name, /^[a-z0-9-]+\.(svg|html|md|json)$/);
});

test('a legend has the whole name of a model, wide and narrow, and a bar that is nothing is at the bottom', async (t) => {
  const names = ['Mistral-7B-Instruct-v0.3.Q8_0', 'SmolLM2-135M-Instruct.Q4_K_M'];
  const rows = names.flatMap((model) => ['gear-4', 'gear-2'].map((cache) => ({ model, cache, right: 0 })));
  const y = { key: 'right', title: 'right', format: 'percent' } as const;
  const plot: Plot = {
    id: 'a',
    title: 'b',
    kind: 'bars',
    x: { key: 'cache', title: 'cache' },
    y,
    series: 'model',
    rows,
  };
  for (const size of ['wide', 'narrow'] as const) {
    const drawn = await draw(plot, size);
    for (const name of names) t.true(drawn.includes(`>${name}<`), `${size}: ${name}`);
    const cut = await draw(
      { ...plot, rows: rows.map((row) => ({ ...row, model: `${row.model}${'-long'.repeat(40)}` })) },
      size,
    );
    t.regex(cut, /…</);
    // The axis' only label, in a plot that is 280 pixels high at least.
    const height = Number(/translate\([\d.-]+,([\d.]+)\)[^>]*>0</.exec(drawn)?.[1]);
    t.true(height > 270, `${height}`);
  }
});

test('report.json is the findings', async (t) => {
  const { json, names } = await written(FULL);
  t.deepEqual(JSON.parse(readFileSync(json, 'utf8')), FULL);
  t.true(names.includes('report.html') && names.includes('report.md'));
});

test('the Markdown has the tables, and says whose figures are not ours', async (t) => {
  const { markdown } = await written(FULL);
  const text = readFileSync(markdown, 'utf8');
  t.true(text.includes('| float16 | 16.00 | **43.2 %** | – | – | 31.5 MB | 1.25 min |'));
  t.true(
    text.includes(
      '> **Not measured here:** these figures are those of Kang et al., GEAR, Table 1 (<https://arxiv.org/abs/2403.05527>).',
    ),
  );
  t.true((await written(EMPTY)).markdown.length > 0);
});

test('a signal that fired keeps a report from being begun', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-report-'));
  folders.push(folder);
  const reason = new Error('enough');
  await t.throwsAsync(writeReport(folder, FULL, { signal: AbortSignal.abort(reason) }), { message: 'enough' });
  t.deepEqual(readdirSync(folder), []);
  await t.throwsAsync(writeReport(join(process.execPath, 'x'), FULL), { code: 'IO_FAILED' });
});

test('figures of a column are in one unit and to as many places, unless that would hide one', (t) => {
  const column = (format: Parameters<typeof columnText>[0], ...cells: number[]) => cells.map(columnText(format, cells));
  t.deepEqual(column('bytes', 31_457_280, 3_932_160, 0), ['31.5 MB', '3.9 MB', '0.0 MB']);
  t.deepEqual(column('bytes', 2e9, 5e3), ['2.00 GB', '5.00 kB']);
  t.deepEqual(column(undefined, 0.1, 0.033, Number.NaN), ['0.1000', '0.0330', '–']);
  t.deepEqual(column(undefined, 12, 3), ['12', '3']);
  t.deepEqual(column(undefined, 120.5, 1e-6), ['120.5', '1.00e-6']);
});

test('headings begin with a capital, names with what they begin with', (t) => {
  const texts = ['bits per value', 'float16 cache', 'gear-4', 'KL', 's', 'émile zola', 'layers'];
  t.deepEqual(texts.map(heading), ['Bits per value', 'float16 cache', 'gear-4', 'KL', 's', 'Émile zola', 'Layers']);
});

test('figures are written for readers', (t) => {
  const written = [
    cellText(0.43219, 'percent'),
    cellText(1_500_000, 'bytes'),
    cellText(0, 'bytes'),
    cellText(0.00042, 'seconds'),
    cellText(90, 'seconds'),
    cellText(300, 'seconds'),
    cellText(-0.00001, { digits: 2 }),
    cellText(-1.5, { digits: 1 }),
    cellText(0.000012345),
    cellText(123456),
    cellText(2.34567),
    cellText(Number.NaN),
    cellText(undefined),
    cellText('a\u202Eb\nc'),
    durationText(7384),
  ];
  t.deepEqual(written, [
    '43.2 %',
    '1.50 MB',
    '0 B',
    '420.0 µs',
    '90.00 s',
    '5.00 min',
    '0.00',
    '−1.5',
    '1.23e-5',
    '123456',
    '2.346',
    '–',
    '–',
    'a b c',
    '2 h 3 min',
  ]);
});
