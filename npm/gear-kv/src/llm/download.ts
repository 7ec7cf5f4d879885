// Files from the web to the disk: a download that was stopped goes on where it was, and has its name only once it is whole.

import { basename, dirname } from 'node:path';
import { GearError } from '../errors.js';
import { PartialFile } from './partial-file.js';
import { ask, pieces, refused, Transient } from './request.js';

/** How far a download has come. */
export interface DownloadProgress {
  /** Where it comes from. */
  readonly from: string;
  /** What is there, with what an earlier download left. */
  readonly receivedBytes: number;
  /** Undefined where the server does not say. */
  readonly totalBytes?: number;
}

/** What a download reports to, and what stops it. */
export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

/** How a download is done. */
export interface DownloadManner extends DownloadOptions {
  /** Where a part of it waits to be continued. Default: beside the file. */
  readonly partsFolder?: string;
  /** The first pause before asking again; each one after is twice as long. */
  readonly pauseMs?: number;
}

/** So often in a row it is asked again without one byte more. */
const RETRIES = 4;
const PAUSE_MS = 500;

/**
 * Downloads to `path`. A download that breaks is continued a few times, and what it has is kept for the next call where the server
 * says which version of the file it is (ETag, Last-Modified), or where `expected` does.
 *
 * @param expected - The SHA-256, where it is known; checked before the file gets its name.
 * @throws GearError `IO_FAILED` where it cannot be had, `CORRUPT_DATA` where something else arrives; the signal's reason.
 */
export async function download(
  url: URL,
  path: string,
  expected: string | undefined,
  options: DownloadManner,
): Promise<void> {
  const { signal, partsFolder = dirname(path), pauseMs = PAUSE_MS } = options;
  signal?.throwIfAborted();
  const part = await PartialFile.claim(partsFolder, `${url.origin}${url.pathname}${url.search} ${basename(path)}`);
  const transfer = new Transfer(url, part, expected, options);
  try {
    let most = part.bytes;
    for (let failures = 0; !(await transfer.attempt()); ) {
      if (part.bytes > most) failures = 0;
      else if (failures === RETRIES) throw transfer.failure;
      most = Math.max(most, part.bytes);
      await pause(Math.max(pauseMs * 2 ** failures, transfer.waitMs), signal);
      failures += 1;
    }
    await part.finish(path);
  } catch (error) {
    const isUseless = error instanceof GearError && error.code === 'CORRUPT_DATA';
    await part.release(!isUseless && (part.version !== '' || expected !== undefined));
    signal?.throwIfAborted();
    throw error;
  }
}

function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', abort);
      resolve();
    }, milliseconds);
    if (signal?.aborted) abort();
    else signal?.addEventListener('abort', abort, { once: true });
  });
}

/** One download, however often it is asked for. */
class Transfer {
  failure = new GearError('IO_FAILED', 'nothing arrived');
  waitMs = 0;
  readonly #url: URL;
  readonly #part: PartialFile;
  readonly #expected: string | undefined;
  readonly #options: DownloadOptions;
  /** Whether some of it came before this answer, maybe from another version. */
  #isPieced = false;

  constructor(url: URL, part: PartialFile, expected: string | undefined, options: DownloadOptions) {
    this.#url = url;
    this.#part = part;
    this.#expected = expected;
    this.#options = options;
  }

  /** Asks for what is missing. Whether the file is whole and right; if not, it is worth asking again. */
  async attempt(): Promise<boolean> {
    this.waitMs = 0;
    try {
      const total = await this.#receive();
      if (total !== undefined && this.#part.bytes < total) {
        this.failure = this.#failed(`sent ${this.#part.bytes} of ${total} bytes`);
        return false;
      }
      return await this.#isRight();
    } catch (error) {
      if (!(error instanceof Transient)) throw error;
      ({ failure: this.failure, waitMs: this.waitMs } = error);
      return false;
    }
  }

  /** Appends one answer. The file's size, where the server says it. */
  async #receive(): Promise<number | undefined> {
    const part = this.#part;
    const canContinue = part.bytes > 0 && (part.version !== '' || this.#expected !== undefined);
    if (part.bytes > 0 && !canContinue) await part.restart('');
    // Compressed on the way, neither sizes nor ranges would be the file's.
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (canContinue) {
      headers['range'] = `bytes=${part.bytes}-`;
      if (part.version !== '') headers['if-range'] = part.version;
    }
    this.#isPieced = canContinue;
    const response = await ask(this.#url, headers, this.#options.signal);
    const total = await this.#fit(response);
    if (response.status === 416) return total;
    const from = this.#url.host;
    for await (const piece of pieces(response, from, this.#options.signal)) {
      await part.append(piece);
      if (total !== undefined && part.bytes > total) {
        await part.restart('');
        throw this.#failed(`sent more than the ${total} bytes that it announced`);
      }
      const progress = { from, receivedBytes: part.bytes };
      this.#options.onProgress?.(total === undefined ? progress : { ...progress, totalBytes: total });
    }
    return total;
  }

  /** Makes the part one that this answer continues. The file's size, where the server says it. */
  async #fit(response: Response): Promise<number | undefined> {
    const { status, headers } = response;
    const part = this.#part;
    const version = versionOf(headers);
    if (status === 200) {
      await part.restart(version);
      this.#isPieced = false;
      const length = headers.get('content-length');
      return length === null || headers.has('content-encoding') ? undefined : size(length);
    }
    const [, unit, begin, total] =
      /^bytes (?:(\*)|(\d+)-\d+)\/(\d+|\*)$/.exec(headers.get('content-range') ?? '') ?? [];
    const isSame = version === '' || part.version === '' || version === part.version;
    if (status === 206 && isSame && size(begin) === part.bytes && !headers.has('content-encoding')) return size(total);
    // Everything was there already, but for its name.
    if (status === 416 && isSame && unit === '*' && size(total) === part.bytes) return part.bytes;
    await response.body?.cancel();
    if (status !== 206 && status !== 416) throw refused(this.#url, response);
    await part.restart('');
    throw new Transient(this.#failed(`answered ${status} with another range than was asked for`));
  }

  async #isRight(): Promise<boolean> {
    const { sha256 } = this.#part;
    if (this.#expected === undefined || sha256 === this.#expected) return true;
    const failure = new GearError(
      'CORRUPT_DATA',
      `${this.#url.origin}${this.#url.pathname} arrived with SHA-256 ${sha256}; expected ${this.#expected}`,
    );
    await this.#part.restart('');
    if (!this.#isPieced) throw failure;
    // Pieces of two versions, perhaps: once more from the beginning.
    this.failure = failure;
    return false;
  }

  #failed(what: string): GearError {
    return new GearError('IO_FAILED', `${this.#url.host} ${what}`);
  }
}

/** What tells versions of a file apart, byte by byte: a strong ETag, else the date. */
function versionOf(headers: Headers): string {
  const tag = headers.get('etag');
  if (tag !== null && !tag.startsWith('W/')) return tag;
  return headers.has('content-encoding') ? '' : (headers.get('last-modified') ?? '');
}

function size(text: string | undefined): number | undefined {
  const value = Number(text ?? Number.NaN);
  return Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
