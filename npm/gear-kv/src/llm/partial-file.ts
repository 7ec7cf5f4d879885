// What has arrived of a file so far. It outlives its process, so that the next one goes on where this one was stopped.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { GearError } from '../errors.js';
import { makeFolder } from '../folder.js';
import { isRunning } from '../left-behind.js';

/** Of its name: which download, which version of the file as the server names it, and who is writing. */
const NAME = /^\.([0-9a-f]{16})\.([\w-]*)\.(free|([0-9a-f]{8})-(\d+)-\d+)\.part$/;
const FREE = 'free';
/** A longer one would make the name too long for a file system; it is not kept. */
const LONGEST_VERSION = 120;

const host = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);
/** The parts that this process writes. */
const active = new Set<string>();
let claims = 0;

/** A file that only this process writes. Others, and other downloads here, have their own. */
export class PartialFile {
  readonly #folder: string;
  readonly #mark: string;
  readonly #owner = `${host}-${process.pid}-${++claims}`;
  #version = '';
  #file: FileHandle | undefined;
  #hash = createHash('sha256');
  #bytes = 0;

  private constructor(folder: string, mark: string) {
    this.#folder = folder;
    this.#mark = mark;
    active.add(this.#owner);
  }

  /**
   * Begins in `folder`, with what an earlier process left of the same download.
   *
   * @param source - Names the download: address and file name.
   * @throws GearError `IO_FAILED`.
   */
  static async claim(folder: string, source: string): Promise<PartialFile> {
    const mark = createHash('sha256').update(source).digest('hex').slice(0, 16);
    const part = new PartialFile(folder, mark);
    try {
      await part.#trying(async () => {
        await makeFolder(folder);
        await part.#takeOver();
        part.#file = await open(part.#path, part.#bytes > 0 ? 'r+' : 'w');
      });
    } catch (error) {
      active.delete(part.#owner);
      throw error;
    }
    return part;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Which version of the file this is a part of: an ETag or a date, as a server sent it; empty where it sent none. */
  get version(): string {
    return Buffer.from(this.#version, 'base64url').toString();
  }

  /** The SHA-256 of all that is there. */
  get sha256(): string {
    return this.#hash.copy().digest('hex');
  }

  get #path(): string {
    return this.#named(this.#owner);
  }

  #named(owner: string): string {
    return join(this.#folder, `.${this.#mark}.${this.#version}.${owner}.part`);
  }

  /** Of the parts that nobody writes, the one with the most bytes. A rename has one winner. */
  async #takeOver(): Promise<void> {
    const found = await Promise.all(
      (await this.#left()).map(async ({ name, version }) => {
        const size = await stat(join(this.#folder, name)).then(
          (file) => (file.isFile() ? file.size : 0),
          () => 0,
        );
        return { name, version, size };
      }),
    );
    for (const { name, version, size } of found.sort((a, b) => b.size - a.size)) {
      if (size === 0) continue;
      this.#version = version;
      const isMine = await rename(join(this.#folder, name), this.#path).then(
        () => true,
        () => false,
      );
      if (!isMine) continue;
      for await (const chunk of createReadStream(this.#path)) this.#count(chunk as Buffer);
      return;
    }
    this.#version = '';
  }

  /** Parts of this download that no living process writes. */
  async #left(): Promise<{ name: string; version: string }[]> {
    return (await readdir(this.#folder)).flatMap((name) => {
      const [, mark, version = '', owner, machine, pid] = NAME.exec(name) ?? [];
      if (mark !== this.#mark) return [];
      const isLeft = owner === FREE || (machine === host && !active.has(owner ?? '') && !isAlive(Number(pid)));
      return isLeft ? [{ name, version }] : [];
    });
  }

  #count(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
  }

  /** Forgets what there is; what follows is a part of `version`. */
  async restart(version: string): Promise<void> {
    const before = this.#path;
    const encoded = Buffer.from(version).toString('base64url');
    this.#version = encoded.length <= LONGEST_VERSION ? encoded : '';
    this.#hash = createHash('sha256');
    this.#bytes = 0;
    await this.#trying(async () => {
      await this.#open.truncate(0);
      if (before !== this.#path) await rename(before, this.#path);
    });
  }

  async append(chunk: Uint8Array): Promise<void> {
    await this.#trying(async () => {
      for (let at = 0; at < chunk.length; ) {
        at += (await this.#open.write(chunk, at, chunk.length - at, this.#bytes + at)).bytesWritten;
      }
    });
    this.#count(chunk);
  }

  /** Gives the file its name, now that it is whole, and removes what else is left of the same download. */
  async finish(path: string): Promise<void> {
    await this.#trying(async () => {
      await this.#open.sync();
      await this.#open.close();
      await rename(this.#path, path);
      this.#end();
      for (const { name } of await this.#left()) await rm(join(this.#folder, name), { force: true });
    });
  }

  /** Leaves what there is to whoever comes next. Without a version nobody could know what it is a part of. */
  async release(isKnown = this.#version !== ''): Promise<void> {
    await this.#file?.close().catch(() => {});
    const leave = isKnown && this.#bytes > 0 ? rename(this.#path, this.#named(FREE)) : rm(this.#path, { force: true });
    await leave.catch(() => {});
    this.#end();
  }

  get #open(): FileHandle {
    if (this.#file === undefined) throw new GearError('INTERNAL', 'a partial file was used after its end');
    return this.#file;
  }

  #end(): void {
    this.#file = undefined;
    active.delete(this.#owner);
  }

  async #trying(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      if (cause instanceof GearError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new GearError('IO_FAILED', `a download could not be written to ${this.#folder}: ${reason}`, { cause });
    }
  }
}

/** Whether another process has this number: a part of this one's number that it does not write is an earlier one's. */
function isAlive(pid: number): boolean {
  return pid !== process.pid && isRunning(pid);
}
