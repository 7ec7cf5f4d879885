// What an experiment has done so far: one line of JSON a unit, behind a line that says what the experiment is.

import { type FileHandle, open, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { GearError } from '../errors.js';
import { makeFolder } from '../folder.js';

/** What makes two runs one experiment. */
export type Identity = Readonly<Record<string, unknown>>;

interface Entry {
  readonly key: string;
  readonly seconds: number;
  readonly result: unknown;
}

const FILE = 'journal.jsonl';

/** A journal that is open for more. */
export class Journal {
  readonly #file: FileHandle;
  readonly #entries: Map<string, Entry>;

  private constructor(file: FileHandle, entries: Map<string, Entry>) {
    this.#file = file;
    this.#entries = entries;
  }

  /**
   * Opens the journal of a folder, which is made where it is absent. A last line that was cut off in the middle of being written is dropped.
   *
   * @throws GearError `INVALID_OPTION` where the folder holds another experiment of which something is done, `CORRUPT_DATA` where a line is no JSON, `IO_FAILED`.
   */
  static async open(folder: string, identity: Identity): Promise<Journal> {
    const path = join(folder, FILE);
    try {
      await makeFolder(folder);
      const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return '';
        throw error;
      });
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      if (whole.length < text.length) await truncate(path, Buffer.byteLength(whole));
      const [first, ...lines] = whole.split('\n').filter((line) => line !== '');
      const found = first === undefined ? undefined : parsed(path, first, 1);
      // One that stopped before anything was done, such as at a wrong name of a preset, holds nothing back.
      const isNew = found === undefined || (lines.length === 0 && 'experiment' in found);
      if (!isNew) checkSame(folder, found, identity);
      const entries = lines.map((line, index) => parsed(path, line, index + 2) as Entry);
      const file = await open(path, 'a');
      if (isNew) await file.truncate();
      const journal = new Journal(file, new Map(entries.map((entry) => [entry.key, entry])));
      if (isNew) await journal.#write(identity);
      return journal;
    } catch (cause) {
      if (cause instanceof GearError) throw cause;
      throw new GearError('IO_FAILED', `${path} could not be used: ${(cause as Error).message}`, { cause });
    }
  }

  /** Units that are done. */
  get units(): number {
    return this.#entries.size;
  }

  /** Seconds that they took. */
  get seconds(): number {
    return [...this.#entries.values()].reduce((sum, { seconds }) => sum + seconds, 0);
  }

  /** Whether a unit is done. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** What a unit that is done has found. */
  result(key: string): unknown {
    return this.#entries.get(key)?.result;
  }

  /** Notes that a unit is done; it is on the disk when the promise resolves. */
  async add(key: string, seconds: number, result: unknown): Promise<void> {
    const entry = { key, seconds, result };
    await this.#write(entry);
    this.#entries.set(key, entry);
  }

  /** No more is written. */
  async close(): Promise<void> {
    await this.#file.close();
  }

  async #write(line: object): Promise<void> {
    await this.#file.appendFile(`${JSON.stringify(line)}\n`);
    await this.#file.sync();
  }
}

function parsed(path: string, line: string, number: number): object {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value;
  } catch {
    // Said below.
  }
  throw new GearError('CORRUPT_DATA', `line ${number} of ${path} is not what an experiment writes; give another --out`);
}

function checkSame(folder: string, found: object, identity: Identity): void {
  const wanted = JSON.parse(JSON.stringify(identity)) as Record<string, unknown>;
  const other = Object.entries({ ...found, ...wanted }).filter(
    ([name]) => !isDeepStrictEqual((found as Record<string, unknown>)[name], wanted[name]),
  );
  if (other.length === 0) return;
  const [name = ''] = other[0] ?? [];
  const [was, is] = [(found as Record<string, unknown>)[name], wanted[name]].map(
    (value) => JSON.stringify(value) ?? 'nothing',
  );
  throw new GearError(
    'INVALID_OPTION',
    `${folder} holds an experiment whose ${name} is ${was}, not ${is}; repeat its command to go on with it, or give another --out`,
  );
}
