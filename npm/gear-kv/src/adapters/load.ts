import { checkedSignal } from '../abort.js';
import { type ByteSource, byteChunks, collected } from '../byte-stream.js';
import { GearError } from '../errors.js';
import { fileChunks } from '../file.js';
import { byteArray } from '../kv-array.js';
import { FrozenCache, GearCache, type KeyOptions, readAbout, type SealKey, unseal } from '../public.js';
import type { FromBytesOptions } from '../tensor.js';
import { FrozenPrefix } from './prefix.js';

/** Options of {@link loadFrozen}. */
export interface LoadFrozenOptions extends FromBytesOptions, KeyOptions {
  /** Stops reading; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Restores what `save`, `toBytes` or `toStream` of a {@link FrozenPrefix} made.
 *
 * @param source - A path or a `file:` URL (Node, Deno and Bun), bytes, or a stream of them.
 * @throws GearError `CORRUPT_DATA`, `UNSUPPORTED_VERSION`, `KEY_MISMATCH`, `IO_FAILED`, `BACKEND_UNAVAILABLE`; the signal's reason where that fired.
 */
export async function loadFrozen(
  source: string | URL | Uint8Array | ArrayBuffer | ByteSource,
  options: LoadFrozenOptions = {},
): Promise<FrozenPrefix> {
  const { signal: given, key, ...rest } = options;
  const signal = checkedSignal(given);
  signal?.throwIfAborted();
  const plain = key === undefined ? source : await opened(source, key, signal);
  const cache = await restored(plain, rest, signal);
  try {
    signal?.throwIfAborted();
    return new FrozenPrefix(cache, cache.about ?? {});
  } catch (error) {
    cache.dispose();
    throw error;
  }
}

/** The bytes of what was sealed. */
function opened(source: unknown, key: SealKey, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const sealed = typeof source === 'string' || source instanceof URL ? fileChunks(source, 1 << 20) : source;
  const bytes = ArrayBuffer.isView(sealed) || isArrayBuffer(sealed) ? [byteArray('source', sealed)] : sealed;
  return bytesOf(unseal(bytes as ByteSource, { key, ...(signal !== undefined && { signal }) }), signal);
}

/** A cache, or one at rest. */
async function restored(
  source: unknown,
  options: FromBytesOptions,
  signal: AbortSignal | undefined,
): Promise<GearCache | FrozenCache> {
  if (typeof source === 'string' || source instanceof URL) {
    return eitherOf(
      source,
      options,
      () => GearCache.load(source, options),
      () => FrozenCache.load(source, options),
    );
  }
  const bytes = await bytesOf(source, signal);
  return eitherOf(
    bytes,
    options,
    async () => GearCache.fromBytes(bytes, options),
    async () => FrozenCache.fromBytes(bytes, options),
  );
}

/** A class refuses the other's container as soon as it has read what it is; asking first would mean to read that twice. */
async function eitherOf(
  source: Uint8Array | string | URL,
  options: FromBytesOptions,
  cache: () => Promise<GearCache>,
  frozen: () => Promise<FrozenCache>,
): Promise<GearCache | FrozenCache> {
  try {
    return await cache();
  } catch (error) {
    if (!(error instanceof GearError)) throw error;
    const kind = await readAbout(source, options).then(
      (about) => about.kind,
      () => 'unknown',
    );
    if (kind === 'frozen') return frozen();
    throw error;
  }
}

function isArrayBuffer(source: unknown): source is ArrayBuffer {
  return Object.prototype.toString.call(source) === '[object ArrayBuffer]';
}

async function bytesOf(source: unknown, signal: AbortSignal | undefined): Promise<Uint8Array> {
  if (ArrayBuffer.isView(source) || isArrayBuffer(source)) {
    return byteArray('source', source);
  }
  return collected(byteChunks(source, signal));
}
