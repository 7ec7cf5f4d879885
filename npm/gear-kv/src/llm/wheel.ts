// Members of a zip archive, which is what a Python wheel is. Sizes and offsets in it are not trusted.

import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createInflateRaw, inflateRawSync } from 'node:zlib';
import { GearError } from '../errors.js';
import { writeWhole } from './whole-file.js';

const END = 0x0605_4b50;
const END_BYTES = 22;
const ENTRY = 0x0201_4b50;
const ENTRY_BYTES = 46;
const LOCAL = 0x0403_4b50;
const LOCAL_BYTES = 30;
const MOST_COMMENT_BYTES = 0xffff;
/** A count or offset of this value stands in another record, for archives beyond 4 GB; a wheel is none. */
const ELSEWHERE = 0xffff_ffff;
const STORED = 0;
const DEFLATED = 8;

interface Member {
  readonly name: string;
  readonly method: number;
  readonly begin: number;
  readonly bytes: number;
}

/** Unpacks the member whose name ends with `suffix`, and checks its hash. */
export async function unpackMember(
  archive: string,
  suffix: string,
  path: string,
  expected: string,
  signal?: AbortSignal,
): Promise<void> {
  const { begin, bytes, method } = await findMember(archive, suffix);
  const packed = createReadStream(archive, { start: begin, end: begin + bytes - 1 });
  if (method !== STORED && method !== DEFLATED) throw damaged(archive, `its member is packed by method ${method}`);
  await writeWhole(path, expected, method === STORED ? [packed] : [packed, createInflateRaw()], signal);
}

/**
 * The texts of the members that are wanted, in the archive's order.
 *
 * @param mostBytes - Of one of them; a longer one is `CORRUPT_DATA`.
 */
export async function* wheelTexts(
  archive: string,
  isWanted: (name: string) => boolean,
  mostBytes: number,
): AsyncGenerator<[name: string, text: string]> {
  const file = await opened(archive);
  try {
    const { size } = await file.stat();
    for (const entry of entries(await centralDirectory(file, size, archive), archive)) {
      if (!isWanted(entry.name)) continue;
      const { begin, bytes, method } = await located(file, entry, size, archive);
      if (bytes > mostBytes)
        throw damaged(archive, `${entry.name} takes ${bytes} bytes; expected at most ${mostBytes}`);
      const packed = await read(file, begin, bytes, size, archive);
      yield [entry.name, unpacked(packed, method, mostBytes, archive).toString('utf8')];
    }
  } finally {
    await file.close();
  }
}

function unpacked(packed: Buffer, method: number, mostBytes: number, archive: string): Buffer {
  if (method === STORED) return packed;
  if (method !== DEFLATED) throw damaged(archive, `its member is packed by method ${method}`);
  try {
    return inflateRawSync(packed, { maxOutputLength: mostBytes });
  } catch (cause) {
    throw damaged(archive, `a member cannot be unpacked (${(cause as Error).message})`);
  }
}

function opened(archive: string): Promise<FileHandle> {
  return open(archive, 'r').catch((cause: Error) => {
    throw new GearError('IO_FAILED', `${archive} could not be read: ${cause.message}`, { cause });
  });
}

async function findMember(archive: string, suffix: string): Promise<Member> {
  const file = await opened(archive);
  try {
    const { size } = await file.stat();
    for (const entry of entries(await centralDirectory(file, size, archive), archive)) {
      if (entry.name.endsWith(suffix)) return await located(file, entry, size, archive);
    }
    throw damaged(archive, `it has no *${suffix}`);
  } finally {
    await file.close();
  }
}

/** A member by where its bytes begin, which the directory does not say. */
async function located(file: FileHandle, entry: Member, size: number, archive: string): Promise<Member> {
  const { begin: header, bytes } = entry;
  const local = await read(file, header, LOCAL_BYTES, size, archive);
  if (local.readUInt32LE(0) !== LOCAL) throw damaged(archive, 'a member is not where the directory says');
  const begin = header + LOCAL_BYTES + local.readUInt16LE(26) + local.readUInt16LE(28);
  if (bytes === 0 || begin + bytes > size) throw damaged(archive, 'a member does not fit into it');
  return { ...entry, begin };
}

async function centralDirectory(file: FileHandle, size: number, archive: string): Promise<Buffer> {
  const tailBytes = Math.min(size, END_BYTES + MOST_COMMENT_BYTES);
  const tail = await read(file, size - tailBytes, tailBytes, size, archive);
  for (let at = tail.length - END_BYTES; at >= 0; at -= 1) {
    // The mark may also stand in the comment behind it; the right one knows how long that is.
    if (tail.readUInt32LE(at) !== END || tail.readUInt16LE(at + 20) !== tail.length - at - END_BYTES) continue;
    return read(file, tail.readUInt32LE(at + 16), tail.readUInt32LE(at + 12), size, archive);
  }
  throw damaged(archive, 'its directory is missing');
}

function* entries(directory: Buffer, archive: string): Generator<Member> {
  let at = 0;
  while (at + ENTRY_BYTES <= directory.length && directory.readUInt32LE(at) === ENTRY) {
    const [name, extra, comment] = [28, 30, 32].map((offset) => directory.readUInt16LE(at + offset)) as [
      number,
      number,
      number,
    ];
    const [bytes, begin] = [directory.readUInt32LE(at + 20), directory.readUInt32LE(at + 42)];
    if (bytes === ELSEWHERE || begin === ELSEWHERE)
      throw damaged(archive, 'it is a zip64 archive, which is not read here');
    const text = directory.toString('utf8', at + ENTRY_BYTES, at + ENTRY_BYTES + name);
    yield { name: text, method: directory.readUInt16LE(at + 10), begin, bytes };
    at += ENTRY_BYTES + name + extra + comment;
  }
}

async function read(file: FileHandle, position: number, bytes: number, size: number, archive: string): Promise<Buffer> {
  if (position + bytes > size) throw damaged(archive, 'it is cut short');
  const buffer = Buffer.alloc(bytes);
  const { bytesRead } = await file.read(buffer, 0, bytes, position);
  if (bytesRead !== bytes) throw damaged(archive, 'it is cut short');
  return buffer;
}

function damaged(archive: string, why: string): GearError {
  return new GearError('CORRUPT_DATA', `${archive} is not a readable wheel: ${why}`);
}
