import { checkedSignal } from './abort.js';
import type { Backend } from './backend/binding.js';
import { backendFor } from './backend/selection.js';
import type { StreamOptions } from './byte-stream.js';
import { byteArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';
import { isSealed, sealedWithoutKey } from './seal.js';
import { type CheckedKey, type KeyOptions, optionalKey } from './seal-key.js';
import type { FromBytesOptions } from './tensor.js';

/** What every `fromBytes` begins with: the bytes, and the backend that is to hold what they are. */
export function checkedBytes(bytes: unknown, options: FromBytesOptions): { view: Uint8Array; backend: Backend } {
  refuseUnknown('fromBytes', checkedOptions('the options of fromBytes', options), ['backend']);
  const view = byteArray('bytes', bytes);
  if (isSealed(view)) throw sealedWithoutKey();
  return { view, backend: backendFor(options.backend) };
}

/** What every `fromStream` begins with: the backend, and the signal. */
export function checkedStreamOptions(options: FromBytesOptions & StreamOptions & KeyOptions): {
  backend: Backend;
  signal: AbortSignal | undefined;
  key: CheckedKey | undefined;
} {
  refuseUnknown('fromStream', checkedOptions('the options of fromStream', options), ['backend', 'signal', 'key']);
  return {
    backend: backendFor(options.backend),
    signal: checkedSignal(options.signal),
    key: optionalKey(options.key),
  };
}

/** What every `load` begins with. */
export function checkedLoadOptions(options: FromBytesOptions & KeyOptions): {
  backend: Backend;
  key: CheckedKey | undefined;
} {
  refuseUnknown('load', checkedOptions('the options of load', options), ['backend', 'key']);
  return { backend: backendFor(options.backend), key: optionalKey(options.key) };
}
