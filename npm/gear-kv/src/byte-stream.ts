import { checkedSignal } from './abort.js';
import { describe, GearError } from './errors.js';
import { byteArray } from './kv-array.js';

/** Options of the stream methods. */
export interface StreamOptions {
  /** Stops the stream, with the signal's reason. */
  signal?: AbortSignal;
}

/** A WHATWG stream (in Node also a `Readable`), or any iterable of byte chunks. */
export type ByteSource =
  | ReadableStream<Uint8Array>
  | AsyncIterable<Uint8Array | ArrayBuffer>
  | Iterable<Uint8Array | ArrayBuffer>;

/** Large enough to cost nothing, small enough that a slow reader holds little. */
const CHUNK_BYTES = 1 << 20;

/** Bytes that are made at the first read, as a stream; `finished` is called once, however it ends. */
export function byteStream(
  make: () => Promise<Uint8Array>,
  finished: () => void,
  given: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const signal = checkedSignal(given);
  let bytes: Uint8Array | undefined;
  let position = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          signal?.throwIfAborted();
          bytes ??= await make();
          signal?.throwIfAborted();
          // A copy: a reader may transfer the chunk to a worker, which would take the whole buffer with it.
          const chunk = bytes.slice(position, position + CHUNK_BYTES);
          position += chunk.length;
          if (chunk.length > 0) controller.enqueue(chunk);
          if (position < bytes.length) return;
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        finished();
      },
      cancel() {
        finished();
      },
    },
    { highWaterMark: 0 },
  );
}

/** Reads a whole stream. */
export async function collectBytes(source: unknown, given: AbortSignal | undefined): Promise<Uint8Array> {
  const signal = checkedSignal(given);
  signal?.throwIfAborted();
  const chunks: Uint8Array[] = [];
  let total = 0;
  for await (const chunk of chunksOf(source, signal)) {
    const bytes = byteArray('a chunk of the stream', chunk);
    chunks.push(bytes);
    total += bytes.length;
  }
  const [only] = chunks;
  if (only !== undefined && chunks.length === 1) return only;
  const whole = new Uint8Array(total);
  let position = 0;
  for (const chunk of chunks) {
    whole.set(chunk, position);
    position += chunk.length;
  }
  return whole;
}

async function* chunksOf(source: unknown, signal: AbortSignal | undefined): AsyncGenerator<unknown> {
  const iterator = iteratorOf(source);
  let ended = false;
  try {
    for (;;) {
      const { value, done } = await untilAborted(iterator.next(), signal);
      if (done === true) {
        ended = true;
        return;
      }
      yield value;
    }
  } catch (cause) {
    if (signal?.aborted === true || cause instanceof GearError) throw cause;
    ended = true;
    throw new GearError('IO_FAILED', `the stream failed: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  } finally {
    // Not awaited: a source that never answers must not hold up an abort.
    if (!ended) Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

interface ChunkIterator {
  next(): Promise<IteratorResult<unknown>>;
  return?(): unknown;
}

/** Browsers were late to make streams iterable, so a reader comes first. */
function iteratorOf(source: unknown): ChunkIterator {
  const candidate = source as
    | (Partial<ReadableStream<unknown>> & Partial<AsyncIterable<unknown>> & Partial<Iterable<unknown>>)
    | null
    | undefined;
  if (typeof candidate === 'object' && candidate !== null && !ArrayBuffer.isView(candidate)) {
    if (typeof candidate.getReader === 'function') {
      const reader = readerOf(candidate as ReadableStream<unknown>);
      return {
        next: () => reader.read() as Promise<IteratorResult<unknown>>,
        return: () => reader.cancel(),
      };
    }
    const asynchronous = candidate[Symbol.asyncIterator]?.();
    if (asynchronous !== undefined) return asynchronous as ChunkIterator;
    const synchronous = candidate[Symbol.iterator]?.();
    if (synchronous !== undefined) {
      return { next: async () => synchronous.next(), return: () => synchronous.return?.() };
    }
  }
  throw new GearError(
    'INVALID_OPTION',
    `the source is ${describe(source)}; expected a ReadableStream or an iterable of Uint8Array chunks`,
  );
}

function readerOf(stream: ReadableStream<unknown>): ReadableStreamDefaultReader<unknown> {
  try {
    return stream.getReader();
  } catch (cause) {
    throw new GearError('IO_FAILED', 'the stream is being read by somebody else (it is locked)', { cause });
  }
}

function untilAborted<Result>(work: Promise<Result>, signal: AbortSignal | undefined): Promise<Result> {
  if (signal === undefined) return work;
  return new Promise<Result>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) return onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
