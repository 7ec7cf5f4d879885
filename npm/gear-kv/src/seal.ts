// Sealed bytes: AES-256-GCM in chunks (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár), under a key of its own for every
// seal. docs/sealing.md is the layout.

import { checkedSignal } from './abort.js';
import { type ByteSource, byteChunks, byteStream, joined, type StreamOptions } from './byte-stream.js';
import { GearError } from './errors.js';
import { checkedOptions, refuseUnknown } from './options.js';
import { type CheckedKey, checkedKey, derivedKey, type SealKey, subtleCrypto } from './seal-key.js';

/** Options of {@link seal} and {@link unseal}. */
export interface SealOptions extends StreamOptions {
  /** The secret: the same to seal and to unseal. */
  key: SealKey;
}

const MAGIC = Uint8Array.from('GEARSEAL', (character) => character.charCodeAt(0));
const VERSION = 1;
const SALT_BYTES = 32;
const PREFIX_BYTES = 7;
const HEADER_BYTES = 56;
const TAG_BYTES = 16;
const CHUNK_BYTES = 1 << 18;
const MOST_CHUNK_BYTES = 1 << 20;
const PURPOSE = 'gear-kv seal 1';

/**
 * Encrypts and authenticates bytes of any kind, a chunk of 256 KiB at a time.
 *
 * @param source - A stream or an iterable of byte chunks.
 * @returns The sealed bytes: 56 more than the source has, and 16 more a chunk.
 * @throws GearError `INVALID_OPTION`, `BACKEND_UNAVAILABLE`; while it is read, `IO_FAILED` where the source fails, and the signal's reason.
 */
export function seal(source: ByteSource, options: SealOptions): ReadableStream<Uint8Array> {
  return through('seal', source, options, sealedPieces);
}

/**
 * What {@link seal} was given. A chunk comes out after it was authenticated; that the end is missing shows at the end, so use nothing before the
 * stream has closed.
 *
 * @throws GearError as {@link seal}; while it is read, `KEY_MISMATCH` for another key, for bytes that were changed, cut off or put in another
 * order, and for bytes that are not sealed; `UNSUPPORTED_VERSION`.
 */
export function unseal(source: ByteSource, options: SealOptions): ReadableStream<Uint8Array> {
  return through('unseal', source, options, unsealedPieces);
}

type Pieces = (source: AsyncIterable<Uint8Array>, key: CheckedKey) => AsyncGenerator<Uint8Array>;

function through(what: string, source: unknown, options: unknown, pieces: Pieces): ReadableStream<Uint8Array> {
  const checked = checkedOptions<SealOptions>(`the options of ${what}`, options);
  refuseUnknown(what, checked, ['key', 'signal']);
  const key = checkedKey(checked.key);
  subtleCrypto();
  const signal = checkedSignal(checked.signal);
  return piecesStream(pieces(byteChunks(source, signal), key), signal);
}

/** Pieces as a stream, none of them empty. */
export function piecesStream(
  pieces: AsyncGenerator<Uint8Array>,
  signal: AbortSignal | undefined,
  finished: () => void = () => {},
): ReadableStream<Uint8Array> {
  const next = async (): Promise<Uint8Array> => {
    for (;;) {
      const { value, done } = await pieces.next();
      if (done === true) return new Uint8Array();
      if (value.length > 0) return value;
    }
  };
  const end = (): void => {
    // Not awaited: a source that never answers must not hold up an abort.
    pieces.return(undefined).catch(() => {});
    finished();
  };
  return byteStream(next, end, signal);
}

/** True for bytes that begin as sealed ones do. */
export function isSealed(bytes: Uint8Array): boolean {
  return bytes.length >= MAGIC.length && MAGIC.every((byte, index) => bytes[index] === byte);
}

/** The same bytes; sealed ones are refused as such, not as damaged. */
export async function* unlessSealed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let start: Uint8Array = new Uint8Array();
  for await (const bytes of source) {
    if (start.length < MAGIC.length) {
      start = joined([start, bytes.subarray(0, MAGIC.length)]);
      if (isSealed(start)) throw sealedWithoutKey();
    }
    yield bytes;
  }
}

/** What to say to those who open sealed bytes without a key. */
export function sealedWithoutKey(): GearError {
  return new GearError(
    'KEY_MISMATCH',
    'this is sealed; pass the key that it was sealed with as { key }, or unseal() it first',
  );
}

/** The header and the chunks of a seal. */
export async function* sealedPieces(source: AsyncIterable<Uint8Array>, key: CheckedKey): AsyncGenerator<Uint8Array> {
  const header = new Uint8Array(HEADER_BYTES);
  header.set(MAGIC);
  const numbers = new DataView(header.buffer);
  numbers.setUint32(8, VERSION, true);
  numbers.setUint32(12, CHUNK_BYTES, true);
  crypto.getRandomValues(header.subarray(16, 16 + SALT_BYTES + PREFIX_BYTES));
  const cipher = await chunkCipher(key, header);
  const bytes = new ByteQueue(source);
  try {
    yield header;
    for (let counter = 0, last = false; !last; counter++) {
      const chunk = await bytes.take(CHUNK_BYTES);
      last = await bytes.ended();
      yield new Uint8Array(await subtleCrypto().encrypt(cipher.params(counter, last), cipher.key, chunk));
    }
  } finally {
    await bytes.close();
  }
}

/** What is in a seal. */
export async function* unsealedPieces(source: AsyncIterable<Uint8Array>, key: CheckedKey): AsyncGenerator<Uint8Array> {
  const bytes = new ByteQueue(source);
  try {
    const header = await bytes.take(HEADER_BYTES);
    const chunkBytes = checkedHeader(header);
    const cipher = await chunkCipher(key, header);
    for (let counter = 0, last = false; !last; counter++) {
      const chunk = await bytes.take(chunkBytes + TAG_BYTES);
      last = await bytes.ended();
      // An empty chunk is written only where nothing else is.
      if (chunk.length < TAG_BYTES || (counter > 0 && chunk.length === TAG_BYTES)) throw broken(counter, chunkBytes);
      const params = cipher.params(counter, last);
      yield await subtleCrypto()
        .decrypt(params, cipher.key, chunk)
        .then(
          (plain) => new Uint8Array(plain),
          (cause) => {
            throw broken(counter, chunkBytes, cause);
          },
        );
    }
  } finally {
    await bytes.close();
  }
}

function checkedHeader(header: Uint8Array<ArrayBuffer>): number {
  if (!isSealed(header)) {
    throw new GearError(
      'KEY_MISMATCH',
      'this is not sealed, and a key was given; if you trust it all the same, open it without a key',
    );
  }
  if (header.length < HEADER_BYTES) throw broken(0, 0);
  const numbers = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const version = numbers.getUint32(8, true);
  if (version !== VERSION) {
    throw new GearError(
      'UNSUPPORTED_VERSION',
      `this seal has version ${version}; this gear-kv knows version ${VERSION}`,
    );
  }
  const chunkBytes = numbers.getUint32(12, true);
  if (chunkBytes < 1 || chunkBytes > MOST_CHUNK_BYTES) throw broken(0, 0);
  return chunkBytes;
}

function broken(counter: number, chunkBytes: number, cause?: unknown): GearError {
  const what =
    counter === 0
      ? 'the key is another one than it was sealed with, or it was changed since, or its end is missing'
      : `it was changed since it was sealed, or its end is missing (seen after ${counter * chunkBytes} bytes)`;
  return new GearError('KEY_MISMATCH', `this cannot be unsealed: ${what}`, { cause });
}

interface ChunkCipher {
  key: CryptoKey;
  params(counter: number, last: boolean): AesGcmParams;
}

/** A key that is used for this seal alone, so that nonces need not differ from those of any other. */
async function chunkCipher(key: CheckedKey, header: Uint8Array<ArrayBuffer>): Promise<ChunkCipher> {
  const salt = header.slice(16, 16 + SALT_BYTES);
  const prefix = header.slice(16 + SALT_BYTES, 16 + SALT_BYTES + PREFIX_BYTES);
  const aes = await derivedKey(key, salt, PURPOSE, { name: 'AES-GCM', length: 256 }, ['encrypt', 'decrypt']);
  return {
    key: aes,
    params: (counter, last) => {
      if (counter > 0xffff_ffff) throw new GearError('OUT_OF_RANGE', 'a seal holds at most 2^32 chunks');
      const iv = new Uint8Array(PREFIX_BYTES + 5);
      iv.set(prefix);
      new DataView(iv.buffer).setUint32(PREFIX_BYTES, counter, false);
      iv[PREFIX_BYTES + 4] = last ? 1 : 0;
      return { name: 'AES-GCM', iv, additionalData: header, tagLength: 8 * TAG_BYTES };
    },
  };
}

/** Pieces of any length, handed out in the lengths that are asked for. */
class ByteQueue {
  readonly #source: AsyncIterator<Uint8Array>;
  #held = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** As many bytes, or all that are left. */
  async take(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const taken = new Uint8Array(length);
    let filled = 0;
    while (filled < length && !(await this.ended())) {
      const part = this.#held.subarray(0, length - filled);
      taken.set(part, filled);
      filled += part.length;
      this.#held = this.#held.subarray(part.length);
    }
    return taken.subarray(0, filled);
  }

  /** True where nothing is left. */
  async ended(): Promise<boolean> {
    while (this.#held.length === 0) {
      const { value, done } = await this.#source.next();
      if (done === true) return true;
      this.#held = value as Uint8Array<ArrayBuffer>;
    }
    return false;
  }

  async close(): Promise<void> {
    await this.#source.return?.();
  }
}
