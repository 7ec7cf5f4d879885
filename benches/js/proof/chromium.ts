// The proof in headless Chromium: a browser that sees the prompt, and another one that starts with what the first has stored.

import { createReadStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { peerFolder } from '../peers.js';
import type { Plan, Seen, Thawed } from './plan.js';

const PACKAGE = fileURLToPath(new URL('../../../npm/gear-kv/', import.meta.url));
const TYPES: Record<string, string> = {
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.wasm': 'application/wasm',
};
const FLAGS = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'];

/** Runs both halves, each in a browser of its own on one profile. */
export async function inChromium(
  executablePath: string,
  model: string,
  plan: Plan,
): Promise<{ seen: Seen; thawed: Thawed[] }> {
  const profile = mkdtempSync(join(tmpdir(), 'gear-kv-proof-'));
  const server = await serve(model);
  const half = async <Result>(which: 'see' | 'go on'): Promise<Result> => {
    const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, headless: true });
    try {
      const page = await context.newPage();
      page.on('console', (message) => {
        if (message.type() === 'error') process.stderr.write(`  Chromium: ${message.text()}\n`);
      });
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      await page.waitForFunction('globalThis.prove');
      return (await page.evaluate(`prove(${JSON.stringify(which)}, ${JSON.stringify(plan)})`)) as Result;
    } finally {
      await context.close();
    }
  };
  try {
    return { seen: await half<Seen>('see'), thawed: await half<Thawed[]>('go on') };
  } finally {
    server.close();
    rmSync(profile, { recursive: true, force: true });
  }
}

async function serve(model: string): Promise<Server> {
  const peers = join(peerFolder('@huggingface/transformers'), 'node_modules');
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('./page.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    external: ['gear-kv', 'gear-kv/transformers'],
  });
  const imports = {
    'gear-kv': '/gear-kv/dist/index.web.js',
    'gear-kv/transformers': '/gear-kv/dist/transformers.js',
  };
  const page = `<!doctype html><meta charset="utf-8"><title>proof</title><link rel="icon" href="data:,">
<script type="importmap">${JSON.stringify({ imports })}</script><script type="module" src="/page.js"></script>`;
  const folders: [string, string][] = [
    ['/gear-kv/', PACKAGE],
    ['/transformers/', join(peers, '@huggingface/transformers/dist')],
    ['/onnxruntime/', join(peers, 'onnxruntime-web/dist')],
    ['/models/smollm2/', model],
  ];
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    if (path === '/') return response.setHeader('content-type', 'text/html').end(page);
    if (path === '/page.js') return response.setHeader('content-type', 'text/javascript').end(outputFiles[0]?.contents);
    const [prefix, folder] = folders.find(([start]) => path.startsWith(start)) ?? [];
    const file = prefix === undefined || folder === undefined ? '' : join(folder, path.slice(prefix.length));
    const size = statSync(file, { throwIfNoEntry: false })?.size;
    if (size === undefined) return response.writeHead(404).end();
    response
      .setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream')
      .setHeader('content-length', size);
    return createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}
