// Questions to web servers: with a deadline, and with failures that say whether it helps to ask again.

import { GearError } from '../errors.js';

/** A server that does not begin to answer for so long is asked again. A busy machine can take some seconds by itself. */
const ANSWER_MS = 20_000;
/** A server that says nothing for so long in the middle of an answer is given up. */
const SILENCE_MS = 30_000;

/** A failure that may be gone a moment later: a server that is busy, a connection that broke. */
export class Transient extends Error {
  constructor(
    /** What is thrown when asking again did not help either. */
    readonly failure: GearError,
    /** How long the server asks to be left alone. */
    readonly waitMs = 0,
  ) {
    super(failure.message);
  }
}

/** Asks a server for something. User name and password may be in the URL. Any status comes back as an answer. */
export async function ask(url: URL, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
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
    return await fetch(bare, { headers: authorized, signal: deadline.signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw unreachable(bare, error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

/** As {@link ask}, and `IO_FAILED` for any other answer than what was asked for. */
export async function request(url: URL, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
  try {
    const response = await ask(url, headers, signal);
    if (!response.ok) throw refused(url, response);
    return response;
  } catch (error) {
    throw error instanceof Transient ? error.failure : error;
  }
}

const BUSY = new Set([408, 425, 429, 500, 502, 503, 504]);
const LONGEST_WAIT_MS = 10_000;

/** What an answer without content means. */
export function refused(url: URL, { status, headers }: Response): GearError | Transient {
  const failure = new GearError('IO_FAILED', `${url.origin}${url.pathname} answered ${status}`);
  if (!BUSY.has(status)) return failure;
  // Seconds, or a date; a date is not worth the clock's error.
  const wait = Number(headers.get('retry-after') ?? 0) * 1000;
  return new Transient(failure, Number.isFinite(wait) ? Math.min(Math.max(wait, 0), LONGEST_WAIT_MS) : 0);
}

/**
 * The pieces of an answer. A connection that breaks, or falls silent, is a {@link Transient}. The time that the caller takes for
 * a piece is not the server's: a disk that is busy for a minute breaks no connection.
 */
export async function* pieces(
  response: Response,
  host: string,
  signal: AbortSignal | undefined,
  silenceMs = SILENCE_MS,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  let failure: unknown;
  const stop = (reason: unknown): void => {
    failure = reason;
    // Ends a read that is waiting.
    reader.cancel(reason).catch(() => {});
  };
  const fallSilent = (): void =>
    stop(new Transient(new GearError('IO_FAILED', `${host} fell silent for ${silenceMs / 1000} s`)));
  let timer: NodeJS.Timeout | undefined;
  const abort = (): void => stop(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    signal?.throwIfAborted();
    for (;;) {
      timer = setTimeout(fallSilent, silenceMs);
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw failure ?? new Transient(unreached(host, error));
      });
      clearTimeout(timer);
      if (failure !== undefined) throw failure;
      if (done) return;
      yield value;
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
    reader.cancel().catch(() => {});
  }
}

/** Of connections that stood, and broke. */
const BROKEN = new Set(['ECONNRESET', 'EPIPE', 'UND_ERR_SOCKET', 'EAI_AGAIN']);

function unreachable(url: URL, error: unknown): GearError | Transient {
  const failure = unreached(url.host, error);
  const { code } = (error as { cause?: { code?: unknown } }).cause ?? {};
  return BROKEN.has(String(code)) ? new Transient(failure) : failure;
}

function unreached(host: string, error: unknown): GearError {
  // fetch itself says no more than "fetch failed".
  const { cause = error } = error as { cause?: unknown };
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new GearError('IO_FAILED', `${host} cannot be reached: ${reason}`, { cause: error });
}
