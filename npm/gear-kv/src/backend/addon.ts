import { GearError } from '../errors.js';
import { builtin, bundleUrl } from './runtime.js';

/**
 * Loads a Node-API module through the loader that `napi build` wrote, given relative to the bundle. Throws
 * `BACKEND_UNAVAILABLE` with every path that was tried, and with `remedy`.
 */
export function loadAddon<Exports>(loader: string, what: string, remedy: string): Exports {
  const createRequire = builtin('node:module')?.createRequire;
  if (createRequire === undefined) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      `${what} needs Node 20.16 or newer, Deno 2 or Bun, and this is none of them. ${remedy}`,
    );
  }
  try {
    return createRequire(bundleUrl())(loader) as Exports;
  } catch (cause) {
    throw new GearError('BACKEND_UNAVAILABLE', `${what} could not be loaded: ${reasons(cause)}. ${remedy}`, { cause });
  }
}

/** The generated loader chains one error per path that it tried; all of them matter to whoever has to fix it. */
function reasons(error: unknown): string {
  const messages: string[] = [];
  let current: unknown = error;
  while (current instanceof Error && messages.length < 8) {
    const first = current.message.split('\n', 1)[0] ?? '';
    if (first !== '' && !messages.includes(first)) messages.push(first);
    current = current.cause;
  }
  return messages.length > 0 ? messages.join('; ') : String(error);
}
