// A cache's container, frozen or not, as bytes, as a stream and as a file: piece by piece, so that no more than the keys or the
// values of a layer are held beside the cache.

import { turn } from './abort.js';
import { type About, aboutOf } from './about.js';
import type { Backend, CacheHandle, CacheReaderHandle, CacheWriterHandle, FrozenHandle } from './backend/binding.js';
import { guarded, settled } from './backend/failure.js';
import { byteStream } from './byte-stream.js';
import { GearError } from './errors.js';
import { fileChunks, writeFileAtomically } from './file.js';
import { byteChunks, piecesStream, sealedPieces, unlessSealed, unsealedPieces } from './seal.js';
import type { CheckedKey } from './seal-key.js';

/** What each read and write moves: large enough to cost nothing, small enough that a slow reader holds little. */
const CHUNK_BYTES = 1 << 20;

/** All that a writer has to give. */
export function wholeBytes(writer: CacheWriterHandle): Uint8Array {
  try {
    return guarded(() => {
      const whole = newBytes(writer.remaining());
      for (let position = 0; position < whole.length; ) position += writer.nextInto(whole.subarray(position));
      return whole;
    });
  } finally {
    writer.release();
  }
}

/** The same as a stream; nothing is computed before it is read. */
export function writerStream(
  backend: Backend,
  writer: CacheWriterHandle,
  signal: AbortSignal | undefined,
  key: CheckedKey | undefined,
): ReadableStream<Uint8Array> {
  if (key !== undefined)
    return piecesStream(sealedPieces(pieces(backend, writer), key), signal, () => writer.release());
  return byteStream(
    () => nextPiece(backend, writer),
    () => writer.release(),
    signal,
  );
}

/** The same as a file, whole or not at all. */
export async function writeCacheFile(
  location: string | URL,
  backend: Backend,
  writer: CacheWriterHandle,
  key: CheckedKey | undefined,
): Promise<void> {
  try {
    // Memory of one piece for all of them: arrays that are left to the garbage collector add up to the file.
    const plain = pieces(backend, writer, key === undefined ? new Uint8Array(CHUNK_BYTES) : undefined);
    await writeFileAtomically(location, key === undefined ? plain : sealedPieces(plain, key));
  } finally {
    writer.release();
  }
}

/** All that a writer has to give, in arrays of their own or in one and the same. */
async function* pieces(
  backend: Backend,
  writer: CacheWriterHandle,
  into?: Uint8Array<ArrayBuffer>,
): AsyncGenerator<Uint8Array> {
  for (;;) {
    const piece = await nextPiece(backend, writer, into);
    if (piece.length === 0) return;
    yield piece;
  }
}

async function nextPiece(
  { tasks }: Backend,
  writer: CacheWriterHandle,
  into: Uint8Array<ArrayBuffer> = new Uint8Array(CHUNK_BYTES),
): Promise<Uint8Array> {
  if (tasks === undefined) await turn(undefined);
  let length = 0;
  while (length < into.length) {
    if (tasks !== undefined) await settled(() => tasks.writerPrepareTask(writer));
    const more = guarded(() => writer.nextInto(into.subarray(length)));
    if (more === 0) break;
    length += more;
  }
  // An array of its own is exactly as long as what is in it: whoever gets it may hand its memory on.
  return length < into.length ? into.slice(0, length) : into;
}

/** Handles of the two kinds of caches. */
interface Handles {
  cache: CacheHandle;
  frozen: FrozenHandle;
}

/** A cache that was read, and what its container says of it. */
export interface Read<Handle> {
  handle: Handle;
  about: Readonly<About> | undefined;
}

/** A cache from all bytes of its container. */
export function readCache<Kind extends keyof Handles>(
  kind: Kind,
  backend: Backend,
  bytes: Uint8Array,
): Read<Handles[Kind]> {
  const reader = guarded(() => backend.binding.CacheReader.create(kind));
  try {
    guarded(() => reader.push(bytes));
    return finished(kind, reader);
  } finally {
    reader.release();
  }
}

/** The same from a stream of them, or from an iterable of pieces. */
export async function readCacheStream<Kind extends keyof Handles>(
  kind: Kind,
  backend: Backend,
  source: unknown,
  signal: AbortSignal | undefined,
  key: CheckedKey | undefined,
): Promise<Read<Handles[Kind]>> {
  const reader = guarded(() => backend.binding.CacheReader.create(kind));
  try {
    const given = byteChunks(source, signal);
    for await (const bytes of key === undefined ? unlessSealed(given) : unsealedPieces(given, key)) {
      guarded(() => reader.push(bytes));
    }
    return finished(kind, reader);
  } finally {
    reader.release();
  }
}

/** The same from a file. */
export async function readCacheFile<Kind extends keyof Handles>(
  kind: Kind,
  backend: Backend,
  location: string | URL,
  key: CheckedKey | undefined,
): Promise<Read<Handles[Kind]>> {
  // The reader copies what it keeps.
  const into = key === undefined ? new Uint8Array(CHUNK_BYTES) : undefined;
  return readCacheStream(kind, backend, fileChunks(location, CHUNK_BYTES, into), undefined, key);
}

function finished<Kind extends keyof Handles>(kind: Kind, reader: CacheReaderHandle): Read<Handles[Kind]> {
  return guarded(() => {
    const told = reader.about() === '' ? undefined : aboutOf(reader);
    return { handle: reader[kind]() as Handles[Kind], about: told };
  });
}

function newBytes(length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new GearError(
      'OUT_OF_RANGE',
      `a container of ${length} bytes cannot be allocated here; use save() or toStream(), which hold little of it`,
      { cause },
    );
  }
}
