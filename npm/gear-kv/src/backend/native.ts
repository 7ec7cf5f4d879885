import { GearError } from '../errors.js';
import type { Backend, Binding, BindingTasks } from './binding.js';
import { builtin, bundleUrl } from './runtime.js';

/** The loader that `napi build` writes beside the module; it falls back to the per-platform packages. */
const LOADER = './native/index.cjs';

let loaded: Backend | undefined;

/** Loads the native module, once. Throws `BACKEND_UNAVAILABLE` with every path that was tried. */
export function nativeBackend(): Backend {
  loaded ??= load();
  return loaded;
}

function load(): Backend {
  const createRequire = builtin('node:module')?.createRequire;
  if (createRequire === undefined) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      "the native backend needs Node 20.16 or newer, Deno 2 or Bun; use backend: 'wasm' here",
    );
  }
  let binding: Binding & BindingTasks;
  try {
    binding = createRequire(bundleUrl())(LOADER) as Binding & BindingTasks;
  } catch (cause) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      `the native module could not be loaded: ${reasons(cause)}. Reinstall gear-kv with optional dependencies, ` +
        "or use backend: 'wasm' (gear-kv/wasm), which runs everywhere",
      { cause },
    );
  }
  return { name: 'native', binding, tasks: binding };
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
