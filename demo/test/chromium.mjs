// The page as it is built, in headless Chromium with a real model: what somebody does on it, by mouse and by keyboard.

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { basename, extname, join, normalize } from 'node:path';
import { FLAGS, TYPES } from '../../npm/gear-kv/test/runners/chromium.mjs';
import { Report } from '../../npm/gear-kv/test/runners/report.mjs';
import { chromiumPath } from '../../scripts/setup/browser.mjs';
import { fetchModel } from '../../scripts/setup/model.mjs';
import { ROOT, TARGET } from '../../scripts/setup/places.mjs';
import { tests } from './tests.mjs';

const PICTURES = join(TARGET, 'demo');
const WIDE = { width: 1280, height: 800 };

/** Runs the tests one after another on one page; the first that fails ends the run, since the next begin where it ended. */
export async function runDemo(onTest) {
  const report = new Report();
  const model = await fetchModel();
  if (model === undefined) {
    report.skipped = tests.length;
    return report;
  }
  const executablePath = chromiumPath();
  if (executablePath === undefined)
    throw new Error('there is no Chromium; npm test installs one, or set CHROMIUM_PATH');
  // Of this run alone: another one beside it must not build the page anew under the browser's eyes.
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-demo-'));
  const [site, profile] = ['site', 'profile'].map((name) => join(folder, name));
  const [{ chromium }] = await Promise.all([import('playwright-core'), buildPage(site)]);
  const server = await serve(site);
  const address = `http://127.0.0.1:${server.address().port}/`;
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    args: FLAGS,
    headless: true,
    viewport: WIDE,
  });
  mkdirSync(PICTURES, { recursive: true });
  try {
    const page = await context.newPage();
    const outside = [];
    const problems = [];
    context.on('request', (request) => {
      if (!/^(http:\/\/127\.0\.0\.1:|blob:|data:)/.test(request.url())) outside.push(request.url());
    });
    page.on('pageerror', (error) => problems.push(error.stack ?? error.message));
    page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
    await page.addInitScript(watchForFreezes);
    const picture = (name) => page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
    const surroundings = { page, address, model, modelName: basename(model), outside, problems, picture };
    for (const [title, test] of tests) {
      onTest(title);
      try {
        await test(surroundings);
        report.pass(title);
      } catch (error) {
        const status = await page.textContent('#status').catch(() => '');
        report.fail(title, `${error.stack ?? error}\nstatus: ${status}\n${problems.join('\n')}`);
        await picture('failed').catch(() => {});
        break;
      }
    }
  } finally {
    await context.close();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
  return report;
}

/** In the page: the longest time for which it answered to nothing. */
function watchForFreezes() {
  let last = performance.now();
  globalThis.longestFreezeMs = 0;
  setInterval(() => {
    const now = performance.now();
    globalThis.longestFreezeMs = Math.max(globalThis.longestFreezeMs, now - last);
    last = now;
  }, 10);
}

async function buildPage(outDir) {
  const { build } = await import('vite');
  await build({ root: join(ROOT, 'demo'), logLevel: 'warn', build: { outDir, emptyOutDir: true } });
}

function serve(folder) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    const file = path === '/' ? '/index.html' : path;
    try {
      const body = readFileSync(join(folder, file));
      const type = { ...TYPES, '.html': 'text/html', '.css': 'text/css' }[extname(file)];
      response.setHeader('content-type', type ?? 'application/octet-stream').end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}
