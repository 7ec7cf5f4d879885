// Zip archives as wheels are, made by hand.
import { deflateRawSync } from 'node:zlib';

export interface ZipMember {
  name: string;
  content: Buffer;
  stored?: boolean;
}

/** A zip archive of these members. */
export function zip(members: readonly ZipMember[], comment = ''): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const { name, content, stored = false } of members) {
    const packed = stored ? content : deflateRawSync(content);
    const sizes = Buffer.alloc(16);
    sizes.writeUInt32LE(packed.length, 8);
    sizes.writeUInt32LE(content.length, 12);
    const method = Buffer.from([20, 0, 0, 0, stored ? 0 : 8, 0]);
    const lengths = Buffer.alloc(4);
    lengths.writeUInt16LE(Buffer.byteLength(name), 0);
    // An extra field in the member alone: offsets must not be taken from the directory.
    const extra = Buffer.from([0xfe, 0xca, 2, 0, 1, 2]);
    lengths.writeUInt16LE(extra.length, 2);
    const local = Buffer.concat([
      Buffer.from('PK\x03\x04', 'latin1'),
      method,
      sizes,
      lengths,
      Buffer.from(name),
      extra,
    ]);
    const entry = Buffer.alloc(18);
    entry.writeUInt16LE(Buffer.byteLength(name), 0);
    entry.writeUInt32LE(at, 14);
    directory.push(Buffer.from('PK\x01\x02\x14\x00', 'latin1'), method, sizes, entry, Buffer.from(name));
    parts.push(local, packed);
    at += local.length + packed.length;
  }
  const listing = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(members.length, 8);
  end.writeUInt16LE(members.length, 10);
  end.writeUInt32LE(listing.length, 12);
  end.writeUInt32LE(at, 16);
  end.writeUInt16LE(comment.length, 20);
  return Buffer.concat([...parts, listing, end, Buffer.from(comment)]);
}
