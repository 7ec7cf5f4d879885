// A cache that outlives the script: appended to at every run, read by attention, compressed, and safe against a crash while it is saved.
//
//   deno run --allow-read --allow-write --allow-env notes.ts chat.gear
//
// The keys and values are made up here; in a program of yours they come from a model's layers.

import init, { GearCache, readAbout } from 'gear-kv';

await init();
const path = Deno.args[0] ?? 'chat.gear';
const shape = { layers: 2, kvHeads: 2, headDim: 64 };
const exists = await Deno.stat(path).then(
  () => true,
  () => false,
);

using cache = exists ? await GearCache.load(path) : new GearCache({ ...shape, preset: 'gear-4' });
const runs = ((cache.about?.metadata?.runs as number | undefined) ?? 0) + 1;
const tokens = Float32Array.from({ length: 2 * 100 * 64 }, (_, index) => Math.sin(index * runs)); // [kvHeads, 100 tokens, headDim]
for (let layer = 0; layer < shape.layers; layer++) cache.append(layer, tokens, tokens);

const query = new Float32Array(4 * 64).fill(0.1); // [queryHeads, 1, headDim]
const output = cache.attend(0, query, { queryHeads: 4 });
await cache.save(path, { about: { model: 'made up', metadata: { runs } } });

// What a file says of itself is read without its cache.
const about = await readAbout(path);
console.log(
  `run ${about.metadata?.runs}: ${about.tokens} tokens in ${about.byteLength} bytes, not ${cache.float16ByteLength}; attention gave ${output.length} numbers`,
);
