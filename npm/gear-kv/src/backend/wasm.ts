import instantiate, * as glue from '../../dist/wasm/gearkv_wasm.js';
import { GearError } from '../errors.js';
import type { Backend, Binding } from './binding.js';
import { explainTraps } from './failure.js';
import type { InitSource } from './selection.js';
import { compiled, compiledFromDisk } from './wasm-input.js';

let loaded: Backend | undefined;
let starting: Promise<void> | undefined;

function ready(): Backend {
  explainTraps(() => glue.lastPanic());
  loaded = { name: 'wasm', binding: glue as unknown as Binding };
  return loaded;
}

/** The wasm backend; in Node, Deno and Bun it is started here, from the file beside the bundle. */
export function wasmBackend(): Backend {
  if (loaded !== undefined) return loaded;
  const module = compiledFromDisk();
  if (module === undefined) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      "the WebAssembly module is not loaded yet: await init() first (import init from 'gear-kv'; await init();)",
    );
  }
  refuseForeign(module);
  try {
    glue.initSync({ module });
  } catch (cause) {
    throw startFailed(cause);
  }
  return ready();
}

/** Starts the wasm backend. Calls at the same time share one start; a failed start can be tried again. */
export function startWasm(input?: InitSource): Promise<void> {
  if (loaded !== undefined) return Promise.resolve();
  starting ??= start(input).finally(() => {
    starting = undefined;
  });
  return starting;
}

async function start(input: InitSource | undefined): Promise<void> {
  const module = await compiled((await input) ?? undefined);
  // A synchronous call may have started it from disk in the meantime; a second instance would orphan its objects.
  if (loaded !== undefined) return;
  refuseForeign(module);
  try {
    // Always the module itself: left to themselves, the bindings look for the file through import.meta.
    await instantiate({ module_or_path: module });
  } catch (cause) {
    throw startFailed(cause);
  }
  ready();
}

/** The bindings keep the first instance for good: another module must not get that far. */
function refuseForeign(module: WebAssembly.Module): void {
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  const missing = ['memory', 'version', 'resolveOptions', '__wbindgen_start'].filter((name) => !names.has(name));
  if (missing.length > 0) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      `the WebAssembly module given to init() is not gear-kv's (it does not export ${missing.join(', ')}); ` +
        'the file is gear-kv/gearkv.wasm',
    );
  }
}

function startFailed(cause: unknown): GearError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new GearError(
    'BACKEND_UNAVAILABLE',
    `the WebAssembly module does not start: ${message}. It needs WebAssembly with SIMD (every browser since 2023), ` +
      "and the file must be this very version's",
    { cause },
  );
}
