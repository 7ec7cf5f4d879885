// Runs the bundled suite in headless Chromium, on a page that gets the package through an import map, as from a CDN.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { chromiumPath } from '../../../../scripts/setup/browser.mjs';
import { PACKAGE, ROOT } from '../../../../scripts/setup/places.mjs';
import { bundleSuite } from './bundle.mjs';
import { Report } from './report.mjs';

const TIMEOUT_MS = 600_000;
/** So that a test can reach it. */
const QUOTA_BYTES = 64 << 20;
const CONDITIONS = new Set(['browser', 'import', 'default']);
export const TYPES = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
};
export const FLAGS = [
  // Chromium refuses to run as root with its sandbox on, and the page is our own.
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Runs the suite on the wasm backend in a browser. */
export async function runChromium(onTest) {
  const executablePath = chromiumPath();
  if (executablePath === undefined)
    throw new Error('there is no Chromium; npm test installs one, or set CHROMIUM_PATH');
  const suite = await bundleSuite({
    runtime: 'chromium',
    backend: 'wasm',
    fixtureUrl: '/fixtures/kv_smollm2_135m.safetensors',
  });
  const server = await serve({
    '/gear-kv/': `${PACKAGE}/`,
    '/fixtures/': join(ROOT, 'fixtures/'),
    '/suite.mjs': suite,
  });
  const { chromium } = await import('playwright-core');
  const profile = mkdtempSync(join(tmpdir(), 'gear-kv-chromium-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, headless: true });
  try {
    const report = new Report();
    let output = '';
    const page = await context.newPage();
    const ended = new Promise((resolve) => {
      const timer = setTimeout(() => resolve('it went silent'), TIMEOUT_MS);
      const finish = (reason) => {
        clearTimeout(timer);
        resolve(reason);
      };
      page.on('console', (message) => {
        const text = message.text();
        if (!report.readHarnessLine(text)) output += `${text}\n`;
        else if (report.ended) finish();
        else onTest(report.latest);
      });
      page.on('pageerror', (error) => {
        output += `${error.stack ?? error.message}\n`;
        finish();
      });
      page.on('crash', () => finish('the page crashed'));
    });
    const origin = `http://127.0.0.1:${server.address().port}`;
    const devTools = await context.newCDPSession(page);
    await devTools.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: QUOTA_BYTES });
    await page.goto(`${origin}/`);
    const reason = await ended;
    return report.close({ code: 0, output: `${output}${reason ?? ''}` });
  } finally {
    await context.close();
    server.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

function serve(folders) {
  const page = `<!doctype html><meta charset="utf-8"><title>gear-kv suite</title><link rel="icon" href="data:,">
<script type="importmap">${JSON.stringify({ imports: importMap() })}</script>
<script type="module" src="/suite.mjs"></script>`;
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname));
    if (path === '/') return response.setHeader('content-type', 'text/html').end(page);
    const [prefix, folder] = Object.entries(folders).find(([start]) => path.startsWith(start)) ?? [];
    try {
      const body = readFileSync(folder + path.slice(prefix.length));
      response.setHeader('content-type', TYPES[extname(path)] ?? 'application/octet-stream').end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

function importMap() {
  const { exports } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
  const imports = Object.entries(exports).map(([subpath, target]) => [
    `gear-kv${subpath.slice(1)}`,
    `/gear-kv${resolveTarget(target).slice(1)}`,
  ]);
  return Object.fromEntries(imports);
}

/** Node's rule: the first condition that holds. */
function resolveTarget(target) {
  if (typeof target === 'string') return target;
  const [, chosen] = Object.entries(target).find(([condition]) => CONDITIONS.has(condition));
  return resolveTarget(chosen);
}
