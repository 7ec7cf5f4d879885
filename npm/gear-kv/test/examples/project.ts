// An example in a folder of its own, with what it imports as npm would have installed it.

import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { type BrowserContext, chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** Copies an example, and links packages: names, and the folders that they are in. */
export function exampleProject(name: string, packages: Record<string, string>): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), `gear-kv-${name}-`));
  cpSync(join(ROOT, 'examples', name), path, { recursive: true });
  const all = { 'gear-kv': join(ROOT, 'npm/gear-kv'), ...packages };
  const dependencies = Object.fromEntries(Object.keys(all).map((dependency) => [dependency, '*']));
  writeFileSync(join(path, 'package.json'), JSON.stringify({ private: true, type: 'module', dependencies }));
  for (const [dependency, folder] of Object.entries(all)) {
    const link = join(path, 'node_modules', dependency);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(folder, link, 'dir');
  }
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Deno's program, which comes as an npm package. */
export const DENO = [process.execPath, join(ROOT, 'node_modules/deno/bin.cjs')];

/** Runs a program to its end; resolves with what it printed. */
export async function output(
  [program = '', ...args]: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<string> {
  const child = spawn(program, args, { cwd, env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) throw new Error(`${[program, ...args].join(' ')}: ${code}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Starts a server, and waits until it says on which port it listens. */
export async function listening(
  args: readonly string[],
  cwd: string,
  env: Record<string, string>,
): Promise<{ url: string; stop(): Promise<void> }> {
  const child: ChildProcess = spawn(process.execPath, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  let said = '';
  const port = await new Promise<string>((resolve, reject) => {
    const read = (text: Buffer): void => {
      said += text;
      const found = /listening on port (\d+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    };
    child.stdout?.on('data', read);
    child.stderr?.on('data', read);
    child.on('error', reject).on('close', () => reject(new Error(`it ended: ${said}`)));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    stop: async () => {
      child.kill();
      await ended;
    },
  };
}

/** Starts headless Chromium with a profile's folder. With flags, which are to say something of its GPU, without those that take it away. */
export async function browser(profile: string, flags: readonly string[] = []): Promise<BrowserContext> {
  const from = (path: string): Promise<unknown> => import(new URL(path, import.meta.url).href);
  const { chromiumPath } = (await from('../../../../scripts/setup/browser.mjs')) as {
    chromiumPath(): string | undefined;
  };
  const { FLAGS } = (await from('../runners/chromium.mjs')) as { FLAGS: string[] };
  const args = flags.length === 0 ? FLAGS : [...FLAGS.filter((flag) => flag !== '--disable-gpu'), ...flags];
  const executablePath = chromiumPath();
  if (executablePath === undefined)
    throw new Error('there is no Chromium; npm test installs one, or set CHROMIUM_PATH');
  return chromium.launchPersistentContext(profile, { executablePath, args, headless: true });
}
