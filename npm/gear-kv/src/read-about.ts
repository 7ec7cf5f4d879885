import { type About, type AboutArray, type Told, tokenIdsOf } from './about.js';
import type { CacheReaderHandle } from './backend/binding.js';
import { guarded } from './backend/failure.js';
import { backendFor } from './backend/selection.js';
import type { CacheSizes } from './cache-options.js';
import { GearError } from './errors.js';
import { fileHead } from './file.js';
import { byteArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';
import { isSealed, sealedWithoutKey } from './seal.js';
import type { FromBytesOptions } from './tensor.js';

/** What a file says of the cache in it. */
export interface AboutFile
  extends Pick<About, 'model' | 'tokenIds' | 'metadata'>,
    Pick<CacheSizes, 'layers' | 'batch' | 'kvHeads' | 'headDim' | 'tokens'> {
  /** For `GearCache` or for `FrozenCache`. */
  readonly kind: 'cache' | 'frozen';
  /** Bytes of the whole file, as it says itself. */
  readonly byteLength: number;
  /** What travels along. The bytes come with the cache. */
  readonly arrays?: { readonly [name: string]: Omit<AboutArray, 'data'> };
}

/** Where the beginning of a file is: all of its bytes, a `Blob` or `File`, or in Node, Deno and Bun its path. */
export type AboutSource = Uint8Array | ArrayBuffer | Blob | string | URL;

/** The bytes from `start` on, as many as asked for or all that there are. */
type Bytes = (start: number, length: number) => Promise<Uint8Array>;

/**
 * Reads what a saved cache says of itself, without the cache: of a file only the header and the token ids are read. Their
 * checksums are checked, those of the rest are not.
 *
 * @throws GearError `CORRUPT_DATA`, `UNSUPPORTED_VERSION`; `KEY_MISMATCH` for a sealed file, of which nothing can be told without opening all of it; `INVALID_OPTION` for a container of something else; `IO_FAILED` with the
 * system's error as `cause`.
 */
export async function readAbout(source: AboutSource, options: FromBytesOptions = {}): Promise<AboutFile> {
  refuseUnknown('readAbout', checkedOptions('the options of readAbout', options), ['backend']);
  const backend = backendFor(options.backend);
  const reader = guarded(() => backend.binding.CacheReader.create('either'));
  try {
    return await withBytes(source, (bytes) => about(reader, bytes));
  } finally {
    reader.release();
  }
}

async function about(reader: CacheReaderHandle, bytes: Bytes): Promise<AboutFile> {
  let position = 0;
  for (;;) {
    const missing = guarded(() => reader.missingToKnow());
    if (missing === 0) break;
    const piece = await bytes(position, missing);
    if (position === 0 && isSealed(piece)) throw sealedWithoutKey();
    guarded(() => reader.push(piece));
    position += piece.length;
    if (piece.length < missing) {
      throw new GearError(
        'CORRUPT_DATA',
        `the source is no whole .gear container: it ends after ${position} bytes, ${missing - piece.length} before what it says of itself does`,
      );
    }
  }
  const { kind, cache, tokens, byteLength, model, tokenIds, metadata, arrays } = JSON.parse(
    guarded(() => reader.about()),
  ) as Told;
  const ids =
    tokenIds === undefined
      ? undefined
      : tokenIdsOf(
          guarded(() => reader.aboutBytes()),
          tokenIds,
        );
  const named = arrays.map(({ name, dtype, shape }): [string, Omit<AboutArray, 'data'>] => [name, { dtype, shape }]);
  return {
    kind,
    ...cache,
    tokens,
    byteLength,
    ...(model !== undefined && { model }),
    ...(ids !== undefined && { tokenIds: ids }),
    ...(metadata !== undefined && { metadata }),
    ...(named.length > 0 && { arrays: Object.fromEntries(named) }),
  };
}

async function withBytes<Result>(source: unknown, use: (bytes: Bytes) => Promise<Result>): Promise<Result> {
  if (typeof source === 'string' || source instanceof URL) return fileHead(source, use);
  if (typeof Blob !== 'undefined' && source instanceof Blob) {
    return use(async (start, length) => {
      try {
        return new Uint8Array(await source.slice(start, start + length).arrayBuffer());
      } catch (cause) {
        const message = cause instanceof Error ? cause.message : String(cause);
        throw new GearError('IO_FAILED', `the blob could not be read: ${message}`, { cause });
      }
    });
  }
  const all = byteArray('source', source);
  return use(async (start, length) => all.subarray(start, start + length));
}
