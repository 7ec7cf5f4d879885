// In a browser, a model is an address or bytes: there is no folder of files. The browser's own cache keeps what it downloads.

import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, refuseUnknown } from '../options.js';
import type { FetchModelOptions } from './model-file.js';

export type { FetchModelOptions } from './model-file.js';

/** What was downloaded and not yet loaded. */
const fetched = new Map<string, Blob>();

/** Downloads a model; the result is good for one {@link takeModel}. */
export async function fetchModel(source?: string | URL, given: FetchModelOptions = {}): Promise<string> {
  const options = checkedOptions<FetchModelOptions>('the options of load', given);
  refuseUnknown('load', options, ['cacheDir', 'signal', 'onProgress', 'onMessage']);
  const signal = checkedSignal(options.signal);
  if (!(typeof source === 'string' || source instanceof URL) || String(source) === '') {
    throw new GearError(
      'INVALID_OPTION',
      `the model is ${describe(source)}; in a browser, give its URL or a GGUF file's bytes`,
    );
  }
  const url = new URL(source, globalThis.location?.href);
  const response = await fetch(url, signal ? { signal } : {}).catch((cause: Error) => {
    signal?.throwIfAborted();
    throw new GearError('IO_FAILED', `${url.href} cannot be reached: ${cause.message}`, { cause });
  });
  if (!response.ok || response.body === null) {
    throw new GearError('IO_FAILED', `${url.href} answered ${response.status}`);
  }
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  const total = Number.isSafeInteger(length) && !response.headers.has('content-encoding') ? length : undefined;
  let receivedBytes = 0;
  const counted = response.body.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        receivedBytes += chunk.length;
        options.onProgress?.({ from: url.host, receivedBytes, ...(total !== undefined && { totalBytes: total }) });
        controller.enqueue(chunk);
      },
    }),
  );
  // A blob may lie on the disk until it is needed, which the bytes of a model had better.
  const blob = await new Response(counted).blob().catch((cause: Error) => {
    signal?.throwIfAborted();
    throw new GearError('IO_FAILED', `${url.href} broke off after ${receivedBytes} bytes: ${cause.message}`, { cause });
  });
  const name = `${url.href}#${crypto.getRandomValues(new Uint32Array(2)).join('-')}`;
  fetched.set(name, blob);
  return name;
}

/** The bytes of what was downloaded under this name. */
export async function takeModel(name: string): Promise<Uint8Array> {
  const blob = fetched.get(name);
  fetched.delete(name);
  if (blob === undefined) throw new GearError('INTERNAL', `no download is called ${name}`);
  return new Uint8Array(await blob.arrayBuffer());
}
