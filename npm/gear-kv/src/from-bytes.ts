import { checkedSignal } from './abort.js';
import type { Backend } from './backend/binding.js';
import { backendFor } from './backend/selection.js';
import type { StreamOptions } from './byte-stream.js';
import { byteArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';
import type { FromBytesOptions } from './tensor.js';

/** What every `fromBytes` begins with: the bytes, and the backend that is to hold what they are. */
export function checkedBytes(bytes: unknown, options: FromBytesOptions): { view: Uint8Array; backend: Backend } {
  refuseUnknown('fromBytes', checkedOptions('the options of fromBytes', options), ['backend']);
  const view = byteArray('bytes', bytes);
  return { view, backend: backendFor(options.backend) };
}

/** What every `fromStream` begins with: the backend, and the signal. */
export function checkedStreamOptions(options: FromBytesOptions & StreamOptions): {
  backend: Backend;
  signal: AbortSignal | undefined;
} {
  refuseUnknown('fromStream', checkedOptions('the options of fromStream', options), ['backend', 'signal']);
  return { backend: backendFor(options.backend), signal: checkedSignal(options.signal) };
}

/** What every `load` begins with. */
export function checkedLoadOptions(options: FromBytesOptions): Backend {
  refuseUnknown('load', checkedOptions('the options of load', options), ['backend']);
  return backendFor(options.backend);
}
