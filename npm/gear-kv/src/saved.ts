// A cache's container, frozen or not, as bytes, as a stream and as a file: piece by piece, so that no more than the keys or the
// values of a layer are held beside the cache.

import { checkedSignal, turn } from './abort.js';
import { type About, type AboutOptions, aboutOf, aboutParts } from './about.js';
import type { Backend, CacheHandle, CacheReaderHandle, CacheWriterHandle, FrozenHandle } from './backend/binding.js';
import { guarded, settled } from './backend/failure.js';
import { byteChunks, byteStream, type StreamOptions } from './byte-stream.js';
import { GearError } from './errors.js';
import { fileChunks, saveFile } from './file.js';
import { checkedOptions, refuseUnknown } from './options.js';
import { piecesStream, sealedPieces, unlessSealed, unsealedPieces } from './seal.js';
import { type CheckedKey, type KeyOptions, optionalKey } from './seal-key.js';

/** What each read and write moves: large enough to cost nothing, small enough that a slow reader holds little. */
const CHUNK_BYTES = 1 << 20;

/** A cache's handle, frozen or not, that can be written. */
interface Writable {
  writer(aboutJson: string, aboutBytes: Uint8Array): CacheWriterHandle;
}

function writerOf(handle: Writable, about: unknown): CacheWriterHandle {
  const { json, bytes } = aboutParts(about);
  return guarded(() => handle.writer(json, bytes));
}

/** What `toBytes` does. */
export function savedBytes(handle: Writable, about: unknown): Uint8Array {
  const writer = writerOf(handle, about);
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

/** What `toStream` does; nothing is computed before it is read. `live` gives the handle, or throws. */
export function savedStream(
  backend: Backend,
  live: () => Writable,
  options: StreamOptions & AboutOptions & KeyOptions,
): ReadableStream<Uint8Array> {
  refuseUnknown('toStream', checkedOptions('the options of toStream', options), ['signal', 'about', 'key']);
  const signal = checkedSignal(options.signal);
  const key = optionalKey(options.key);
  const writer = writerOf(live(), options.about);
  if (key !== undefined)
    return piecesStream(sealedPieces(pieces(backend, writer), key), signal, () => writer.release());
  return byteStream(
    () => nextPiece(backend, writer),
    () => writer.release(),
    signal,
  );
}

/** What `save` does: the whole file is there, or nothing of it. */
export async function savedFile(
  location: string | URL,
  backend: Backend,
  live: () => Writable,
  options: AboutOptions & KeyOptions,
): Promise<void> {
  refuseUnknown('save', checkedOptions('the options of save', options), ['about', 'key']);
  const key = optionalKey(options.key);
  const writer = writerOf(live(), options.about);
  try {
    // Memory of one piece for all of them: arrays that are left to the garbage collector add up to the file.
    const plain = pieces(backend, writer, key === undefined ? new Uint8Array(CHUNK_BYTES) : undefined);
    await saveFile(location, key === undefined ? plain : sealedPieces(plain, key));
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
