// Files from the web to the disk: streamed, counted, hashed, and in place only once they are whole.

import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Readable, Transform, type TransformCallback } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { GearError } from '../errors.js';

/** How far a download has come. */
export interface DownloadProgress {
  /** Where it comes from. */
  readonly from: string;
  readonly receivedBytes: number;
  /** Undefined where the server does not say. */
  readonly totalBytes?: number;
}

/** What a download reports to, and what stops it. */
export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: DownloadProgress) => void) | undefined;
}

/** A server that says nothing for so long is given up. */
const SILENCE_MS = 30_000;
const ANSWER_MS = 8_000;

/** Asks a server for something, with a deadline for its first answer. User name and password may be in the URL. */
export async function request(url: URL, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
  const bare = new URL(url);
  const { username, password } = bare;
  bare.username = '';
  bare.password = '';
  const authorized =
    username === ''
      ? headers
      : {
          ...headers,
          authorization: `Basic ${Buffer.from(decodeURIComponent(`${username}:${password}`)).toString('base64')}`,
        };
  const deadline = new AbortController();
  const timer = setTimeout(() => deadline.abort(new Error(`no answer within ${ANSWER_MS / 1000} s`)), ANSWER_MS);
  const abort = (): void => deadline.abort(signal?.reason);
  signal?.throwIfAborted();
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const response = await fetch(bare, { headers: authorized, signal: deadline.signal });
    if (!response.ok) throw new GearError('IO_FAILED', `${bare.href} answered ${response.status}`);
    return response;
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof GearError ? error : unreachable(bare, error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

function unreachable(url: URL, error: unknown): GearError {
  // fetch itself says no more than "fetch failed".
  const { cause = error } = error as { cause?: unknown };
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new GearError('IO_FAILED', `${url.host} cannot be reached: ${reason}`, { cause: error });
}

/** Downloads to `path`. Resolves with the hash; `expected`, where known, is checked before the file gets its name. */
export async function download(
  url: URL,
  path: string,
  expected: string | undefined,
  options: DownloadOptions,
): Promise<void> {
  const response = await request(url, {}, options.signal);
  if (response.body === null) throw new GearError('IO_FAILED', `${url.host} sent nothing`);
  const encoded = response.headers.has('content-encoding');
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  const total = Number.isSafeInteger(length) && !encoded ? length : undefined;
  const counter = new Counter(url.host, total, options);
  const source = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]);
  const hash = await writeWhole(path, expected, [source, counter], options.signal);
  if (total !== undefined && counter.received !== total) {
    await rm(path, { force: true });
    throw new GearError('IO_FAILED', `${url.host} sent ${counter.received} of ${total} bytes (${hash})`);
  }
}

/** Streams into a file that takes its name only when it is whole and its hash is right. Returns the SHA-256. */
export async function writeWhole(
  path: string,
  expected: string | undefined,
  streams: readonly NodeJS.ReadableStream[],
  signal?: AbortSignal,
): Promise<string> {
  await mkdir(dirname(path), { recursive: true });
  const part = join(dirname(path), `.${basename(path)}.${randomUUID()}.part`);
  const hash = createHash('sha256');
  const hashing = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      done(null, chunk);
    },
  });
  try {
    await pipeline(
      [...streams, hashing, createWriteStream(part, { flush: true } as object)] as never,
      signal ? { signal } : {},
    );
    const found = hash.digest('hex');
    if (expected !== undefined && found !== expected) {
      throw new GearError('CORRUPT_DATA', `${basename(path)} arrived with SHA-256 ${found}; expected ${expected}`);
    }
    await rename(part, path);
    return found;
  } catch (cause) {
    await rm(part, { force: true });
    signal?.throwIfAborted();
    if (cause instanceof GearError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new GearError('IO_FAILED', `${path} could not be written: ${reason}`, { cause });
  }
}

/** Counts what passes, and fails when nothing has for a long time. */
class Counter extends Transform {
  received = 0;
  readonly #report: (received: number) => void;
  #silence: NodeJS.Timeout;

  constructor(from: string, total: number | undefined, { onProgress }: DownloadOptions) {
    super();
    this.#report = (receivedBytes) =>
      onProgress?.({ from, receivedBytes, ...(total !== undefined && { totalBytes: total }) });
    this.#silence = setTimeout(() => {
      this.destroy(new GearError('IO_FAILED', `${from} fell silent for ${SILENCE_MS / 1000} s`));
    }, SILENCE_MS);
  }

  override _transform(chunk: Buffer, _: string, done: TransformCallback): void {
    this.received += chunk.length;
    this.#silence.refresh();
    this.#report(this.received);
    done(null, chunk);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#silence);
    done(error);
  }
}
