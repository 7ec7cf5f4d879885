import { checkedSignal, untilAborted } from './abort.js';
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

/** Bytes that are made as they are read, until a piece is empty; `finished` is called once, however it ends. */
export function byteStream(
  next: () => Promise<Uint8Array>,
  finished: () => void,
  given: AbortSignal | undefined,
): ReadableStream<Uint8Array> {
  const signal = checkedSignal(given);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          signal?.throwIfAborted();
          const piece = await next();
          signal?.throwIfAborted();
          if (piece.length > 0) return controller.enqueue(piece);
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

/** Pieces, one after the other. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let position = 0;
  for (const piece of pieces) {
    whole.set(piece, position);
    position += piece.length;
  }
  return whole;
}

/** All of them as one. */
export async function collected(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return joined(all);
}

/** A stream's pieces; browsers were late to make streams iterable. */
export async function* streamPieces(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel();
  }
}

/** The chunks of a stream or an iterable, each of them checked. */
export async function* byteChunks(source: unknown, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunksOf(source, signal)) yield byteArray('a chunk of the stream', chunk);
}

/** The chunks of a stream or an iterable; what fails in it is `IO_FAILED`. */
async function* chunksOf(source: unknown, given: AbortSignal | undefined): AsyncGenerator<unknown> {
  const signal = checkedSignal(given);
  signal?.throwIfAborted();
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
