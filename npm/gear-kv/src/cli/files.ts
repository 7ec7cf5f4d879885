import { GearError } from '../errors.js';
import { fileExists, readFileBytes, saveFile } from '../file.js';
import type { Flags } from './usage.js';

/** Refuses an output file that is there already; before the work, not after it. */
export async function refuseOverwrite(path: string, flags: Flags): Promise<void> {
  if (flags['force'] !== true && (await fileExists(path))) {
    throw new GearError('IO_FAILED', `${path} exists already; give another name, or --force to overwrite it`);
  }
}

/** Writes the result, whole or not at all. */
export async function writeOutput(path: string, bytes: Uint8Array, flags: Flags): Promise<void> {
  // Again, since the work may have taken a while.
  await refuseOverwrite(path, flags);
  await saveFile(path, bytes);
}

/** What a file of JSON holds. */
export async function readJson(path: string): Promise<unknown> {
  const text = new TextDecoder().decode(await readFileBytes(path));
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new GearError('CORRUPT_DATA', `${path} is not JSON: ${(cause as Error).message}`, { cause });
  }
}

/** The result of a command: JSON or text on standard output. */
export function printResult(flags: Flags, json: unknown, text: string): void {
  process.stdout.write(flags['json'] === true ? `${JSON.stringify(json, undefined, 2)}\n` : text);
}
