// Just enough of the format to make and read small files, apart from the library that the package uses.

export interface Tensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
}

export interface SafetensorsFile {
  tensors: Record<string, Tensor>;
  metadata?: Record<string, string>;
}

export function writeSafetensors({ tensors, metadata }: SafetensorsFile): Uint8Array {
  let position = 0;
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [position, position + bytes.length] };
    position += bytes.length;
  }
  const json = new TextEncoder().encode(JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + position);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  let at = 8 + json.length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

export function readSafetensors(given: Uint8Array): SafetensorsFile {
  // The slice() of Node's Buffer would be a view.
  const file = new Uint8Array(given);
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length))) as Record<string, unknown>;
  const { __metadata__: metadata, ...entries } = header;
  const tensors = Object.entries(entries).map(([name, entry]): [string, Tensor] => {
    const { dtype, shape, data_offsets } = entry as { dtype: string; shape: number[]; data_offsets: [number, number] };
    const [begin, end] = data_offsets;
    return [name, { dtype, shape, bytes: file.slice(8 + length + begin, 8 + length + end) }];
  });
  return {
    tensors: Object.fromEntries(tensors),
    ...(metadata !== undefined && { metadata: metadata as Record<string, string> }),
  };
}

/** The bytes of any array. */
export function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
