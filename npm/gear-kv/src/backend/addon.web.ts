import { startedEngine } from '../llm/wasm-engine.js';

/** In a browser, what is loaded in place of the engine's native module: its WebAssembly module, which was started before. */
export function loadAddon<Exports>(): Exports {
  return startedEngine() as Exports;
}
