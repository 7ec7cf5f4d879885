import { defineConfig } from 'vite';

export default defineConfig({
  // The page may lie in any folder of a server.
  base: './',
  build: { target: 'es2022' },
  worker: { format: 'es' },
  // Bundled ahead of time, it would look for its WebAssembly file in the wrong place.
  optimizeDeps: { exclude: ['gear-kv'] },
});
