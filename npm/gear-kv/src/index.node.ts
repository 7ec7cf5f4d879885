// Node and Bun: the native module, and WebAssembly where that does not load.
import { nativeBackend } from './backend/native.js';
import { useBackends } from './backend/selection.js';
import { startWasm, wasmBackend } from './backend/wasm.js';

useBackends({ native: { load: nativeBackend }, wasm: { load: wasmBackend, start: startWasm } }, ['native', 'wasm']);

export { init as default } from './init.js';
export * from './public.js';
