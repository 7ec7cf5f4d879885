// One half of the proof on a page: caches are kept in the origin's private file system, where the next browser finds them.

import init, { GearError } from 'gear-kv';
import { loadFrozen } from 'gear-kv/transformers';
import { goOn, loadModel, type Place, see, type Transformers } from './measure.js';
import { fileOf, type Plan } from './plan.js';

async function run(half: 'see' | 'go on', plan: Plan) {
  await init();
  const library = (await import(new URL('/transformers/transformers.js', location.href).href)) as Transformers;
  Object.assign(library.env, {
    allowRemoteModels: false,
    allowLocalModels: true,
    localModelPath: '/models/',
    useBrowserCache: false,
  });
  const wasmPaths = new URL('/onnxruntime/', location.href).href;
  Object.assign(library.env.backends.onnx.wasm, { wasmPaths, numThreads: 1 });
  const root = await navigator.storage.getDirectory();
  const place: Place = {
    library,
    model: await loadModel(library, 'smollm2', 'wasm'),
    async save(name, frozen) {
      const file = await root.getFileHandle(fileOf(name), { create: true });
      await frozen.toStream().pipeTo(await file.createWritable());
      return (await file.getFile()).size;
    },
    async load(name) {
      const file = await (await root.getFileHandle(fileOf(name))).getFile();
      return loadFrozen(await file.arrayBuffer());
    },
  };
  return half === 'see' ? see(place, plan) : goOn(place, plan);
}

Object.assign(globalThis, {
  prove: (half: 'see' | 'go on', plan: Plan) =>
    run(half, plan).catch((error: unknown) => {
      const code = error instanceof GearError ? `${error.code}: ` : '';
      throw new Error(`${code}${error instanceof Error ? error.stack : String(error)}`);
    }),
});
