import { describe, GearError } from '../errors.js';
import type { Backend, BackendName } from './binding.js';
import { environment } from './runtime.js';
import type { InitInput } from './wasm-input.js';

/** What `init` takes: the module's source, or a promise of it. */
export type InitSource = InitInput | Promise<InitInput>;

/** A backend, or the choice of the best one that loads. */
export type BackendChoice = BackendName | 'auto';

/** Which backend computes. */
export interface BackendInfo {
  /** `native` (Node, Deno, Bun) or `wasm` (everywhere). */
  readonly name: BackendName;
  /** Version of the compiled core. */
  readonly version: string;
  /** What its hot loops run on: `avx512`, `avx2`, `dotprod` (NEON with dot products of bytes), `neon`, `simd128` or `scalar`. */
  readonly simd: string;
  /** Why the native module is not in use, where it was tried and did not load. */
  readonly fallbackReason?: string;
}

/** How a backend is loaded. */
export interface BackendLoader {
  /** Loads it on the calling thread, or throws `BACKEND_UNAVAILABLE`. */
  load(): Backend;
  /** Starts it where that cannot be done on the calling thread: WebAssembly in a browser. */
  start?(input?: InitSource): Promise<void>;
}

/** The backends of one entry point. */
export type BackendLoaders = Partial<Record<BackendName, BackendLoader>>;

let loaders: BackendLoaders = {};
let order: readonly BackendName[] = [];
let chosen: Backend | undefined;
let fallbackReason: string | undefined;

/** Called once by each entry point: each is a bundle of its own with a selection of its own. */
export function useBackends(available: BackendLoaders, preference: readonly BackendName[]): void {
  loaders = available;
  order = preference;
  chosen = undefined;
  fallbackReason = undefined;
}

/** Loads a backend by choice. */
export function backendFor(choice: BackendChoice | undefined): Backend {
  if (choice === undefined || choice === 'auto') return defaultBackend();
  if (choice !== 'native' && choice !== 'wasm') {
    throw new GearError('INVALID_OPTION', `backend is ${describe(choice)}; expected 'native', 'wasm' or 'auto'`);
  }
  const loader = loaders[choice];
  if (loader === undefined) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      `the ${choice} backend is not part of this entry point, which has ${order.map((name) => `'${name}'`).join(' and ')}; ` +
        `import from 'gear-kv/${choice}' to use it`,
    );
  }
  return loader.load();
}

/** The backend that the environment asks for, or the first of this entry point that loads. */
export function defaultBackend(): Backend {
  chosen ??= firstThatLoads();
  return chosen;
}

/** The backend that the environment asks for; entry points with a single backend do not ask. */
function wantedByEnvironment(): BackendName | undefined {
  const wanted = environment('GEARKV_BACKEND');
  if (order.length < 2 || wanted === undefined || wanted === '' || wanted === 'auto') return undefined;
  if (wanted === 'native' || wanted === 'wasm') return wanted;
  throw new GearError(
    'INVALID_OPTION',
    `the environment variable GEARKV_BACKEND is '${wanted}'; expected 'native', 'wasm' or 'auto'`,
  );
}

function firstThatLoads(): Backend {
  const wanted = wantedByEnvironment();
  if (wanted !== undefined) return backendFor(wanted);
  const failures: GearError[] = [];
  for (const name of order) {
    try {
      const backend = backendFor(name);
      fallbackReason = failures[0]?.message;
      return backend;
    } catch (error) {
      if (!(error instanceof GearError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
      failures.push(error);
    }
  }
  if (failures.length === 1 && failures[0] !== undefined) throw failures[0];
  throw new GearError(
    'BACKEND_UNAVAILABLE',
    `no backend could be loaded: ${failures.map((failure) => failure.message).join('; ')}`,
    { cause: failures[0] },
  );
}

/** Brings up the default backend where that takes waiting. */
export async function startDefault(input?: InitSource): Promise<void> {
  if (chosen !== undefined) return;
  for (const name of [wantedByEnvironment() ?? order].flat()) {
    const loader = loaders[name];
    if (loader?.start !== undefined) return loader.start(input);
    try {
      loader?.load();
      return;
    } catch (error) {
      if (name === order.at(-1)) throw error;
    }
  }
}

/** Brings up one backend, waiting where that is needed. */
export async function startBackend(choice: BackendChoice): Promise<void> {
  if (choice === 'auto') return startDefault();
  await loaders[choice]?.start?.();
  backendFor(choice);
}

/** Says which backend a choice comes to, loading it. */
export function backendInfo(choice?: BackendChoice): BackendInfo {
  const backend = backendFor(choice);
  return {
    name: backend.name,
    version: backend.binding.version(),
    simd: backend.binding.simdLevel(),
    ...(fallbackReason !== undefined && backend.name === 'wasm' && { fallbackReason }),
  };
}
