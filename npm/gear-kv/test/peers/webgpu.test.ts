// Tensors that are really on a GPU, if only on SwiftShader's: transformers.js on WebGPU in headless Chromium.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { peerFolder } from '../../../../benches/js/peers.js';
import { servedFiles } from '../../../../benches/js/static-files.js';
import { browser } from '../examples/project.js';
import { testWith, tinyModelFolder } from './tiny.js';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const WITHOUT_A_GPU = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-unsafe-swiftshader',
  '--ignore-gpu-blocklist',
];

interface Result {
  skipped?: string;
  made: string[];
  fetched: string[];
  uncached: number[];
  thawed: number[];
  told: Record<'settled' | 'at once', { answer: number[]; between?: string[]; tokens: number; bytes: number }>;
}

const folder = tinyModelFolder();
test.after.always(() => folder.remove());

testWith('@huggingface/transformers')(
  'WebGPU: keys and values are fetched from the GPU, and generate goes on',
  async (t) => {
    const peers = join(peerFolder('@huggingface/transformers'), 'node_modules');
    const site = mkdtempSync(join(tmpdir(), 'gear-kv-webgpu-'));
    const profile = mkdtempSync(join(tmpdir(), 'gear-kv-webgpu-'));
    t.teardown(() => {
      for (const path of [site, profile]) rmSync(path, { recursive: true, force: true });
    });
    const imports = {
      'gear-kv': '/gear-kv/dist/index.web.js',
      'gear-kv/transformers': '/gear-kv/dist/transformers.js',
    };
    writeFileSync(
      join(site, 'index.html'),
      `<!doctype html><script type="importmap">${JSON.stringify({ imports })}</script><script type="module" src="/test/webgpu-page.js"></script>`,
    );
    const server = await servedFiles({
      '/gear-kv/': PACKAGE,
      '/transformers/': join(peers, '@huggingface/transformers/dist'),
      '/onnxruntime/': join(peers, 'onnxruntime-web/dist'),
      '/models/tiny/': folder.path,
      '/test/': fileURLToPath(new URL('.', import.meta.url)),
      '/': site,
    });
    t.teardown(() => server.stop());
    const context = await browser(profile, WITHOUT_A_GPU);
    t.teardown(() => context.close());
    const page = await context.newPage();
    await page.goto(server.url);
    await page.waitForFunction('globalThis.run');
    const result = (await page.evaluate('run()')) as Result;
    if (result.skipped !== undefined) {
      t.log(result.skipped);
      t.pass();
      return;
    }
    t.deepEqual(result.made, ['gpu-buffer'], 'or this tests nothing');
    t.deepEqual(result.fetched, ['cpu']);
    t.deepEqual(result.thawed, result.uncached);
    const { settled, 'at once': atOnce } = result.told;
    t.deepEqual(settled.between, ['cpu']);
    t.deepEqual(settled.answer, result.uncached);
    t.deepEqual(atOnce.answer, result.uncached);
    t.is(settled.tokens, result.uncached.length - 1);
    t.deepEqual([atOnce.tokens, atOnce.bytes], [settled.tokens, settled.bytes]);
  },
);
