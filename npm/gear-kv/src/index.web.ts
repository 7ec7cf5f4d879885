// Browsers, Deno and workerd: WebAssembly.
import { useBackends } from './backend/selection.js';
import { startWasm, wasmBackend } from './backend/wasm.js';

useBackends({ wasm: { load: wasmBackend, start: startWasm } }, ['wasm']);

export { init as default } from './init.js';
export * from './public.js';
