import { loadAddon } from './addon.js';
import type { Backend, Binding, BindingTasks } from './binding.js';

/** The loader that `napi build` writes beside the module; it falls back to the per-platform packages. */
const LOADER = './native/index.cjs';

let loaded: Backend | undefined;

/** Loads the native module, once. Throws `BACKEND_UNAVAILABLE` with every path that was tried. */
export function nativeBackend(): Backend {
  loaded ??= load();
  return loaded;
}

function load(): Backend {
  const binding = loadAddon<Binding & BindingTasks>(
    LOADER,
    'the native module',
    "Reinstall gear-kv with optional dependencies, or use backend: 'wasm' (gear-kv/wasm), which runs everywhere",
  );
  return { name: 'native', binding, tasks: binding };
}
