// Files of data on this machine.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { GearError } from '../../errors.js';
import { makeFolder } from '../../folder.js';
import { modelFolder } from '../../llm/model-file.js';

/** Where data that was downloaded is kept: beside the models. */
export async function dataFolder(): Promise<string> {
  const folder = join(dirname(modelFolder()), 'data');
  await makeFolder(folder).catch((cause: Error) => {
    throw new GearError('IO_FAILED', `${folder} could not be made: ${cause.message}`, { cause });
  });
  return folder;
}

/** The SHA-256 of a file. */
export async function sha256Of(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash, signal ? { signal } : {});
  return hash.digest('hex');
}

/** Whether a file is there and has this SHA-256. */
export async function hasHash(path: string, sha256: string): Promise<boolean> {
  return (await sha256Of(path).catch(() => '')) === sha256;
}
