// Files that have their name only once they are whole and checked.

import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { GearError } from '../errors.js';
import { makeFolder } from '../folder.js';

/** Streams into a file that takes its name only when it is whole and its hash is right. Returns the SHA-256. */
export async function writeWhole(
  path: string,
  expected: string | undefined,
  streams: readonly NodeJS.ReadableStream[],
  signal?: AbortSignal,
): Promise<string> {
  await makeFolder(dirname(path));
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
