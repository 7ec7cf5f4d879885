import type { Backend } from './backend/binding.js';
import { backendFor } from './backend/selection.js';
import { type ByteSource, collectBytes, type StreamOptions } from './byte-stream.js';
import { byteArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';
import type { FromBytesOptions } from './tensor.js';

/** What every `fromBytes` begins with: the bytes, and the backend that is to hold what they are. */
export function checkedBytes(bytes: unknown, options: FromBytesOptions): { view: Uint8Array; backend: Backend } {
  refuseUnknown('fromBytes', checkedOptions('the options of fromBytes', options), ['backend']);
  const view = byteArray('bytes', bytes);
  return { view, backend: backendFor(options.backend) };
}

/** What every `fromStream` does: `fromBytes`, once all of the stream is there. */
export async function fromWholeStream<Whole>(
  source: ByteSource,
  options: FromBytesOptions & StreamOptions,
  fromBytes: (bytes: Uint8Array, options: FromBytesOptions) => Whole,
): Promise<Whole> {
  refuseUnknown('fromStream', checkedOptions('the options of fromStream', options), ['backend', 'signal']);
  const bytes = await collectBytes(source, options.signal);
  const { backend } = options;
  return fromBytes(bytes, backend === undefined ? {} : { backend });
}
