// The proof in headless Chromium: a browser that sees the prompt, and another one that starts with what the first has stored.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { chromium } from 'playwright-core';
import { peerFolder } from '../peers.js';
import { servedFiles } from '../static-files.js';
import type { Plan, Seen, Thawed } from './plan.js';

const PACKAGE = fileURLToPath(new URL('../../../npm/gear-kv/', import.meta.url));
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
      await page.goto(server.url);
      await page.waitForFunction('globalThis.prove');
      return (await page.evaluate(`prove(${JSON.stringify(which)}, ${JSON.stringify(plan)})`)) as Result;
    } finally {
      await context.close();
    }
  };
  try {
    return { seen: await half<Seen>('see'), thawed: await half<Thawed[]>('go on') };
  } finally {
    server.stop();
    rmSync(profile, { recursive: true, force: true });
  }
}

async function serve(model: string): ReturnType<typeof servedFiles> {
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
  return servedFiles(
    {
      '/gear-kv/': PACKAGE,
      '/transformers/': join(peers, '@huggingface/transformers/dist'),
      '/onnxruntime/': join(peers, 'onnxruntime-web/dist'),
      '/models/smollm2/': model,
    },
    {
      '/': { type: 'text/html', body: page },
      '/page.js': { type: 'text/javascript', body: outputFiles[0]?.contents ?? '' },
    },
  );
}
