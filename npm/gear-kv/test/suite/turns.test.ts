import test from 'ava';
import { kvNumbers } from './numbers.js';
import { environment, gear } from './support.js';

const shape = { batch: 1, heads: 8, tokens: 8192, headDim: 64 };
const numbers = kvNumbers(shape);
const options = { shape, role: 'key', preset: 'paper-gear-4' } as const;
// WebAssembly has no thread but JavaScript's.
const native = environment.backend === 'native' ? test : test.skip;

/** How often timers came to their turn while a promise was pending. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let pending = true;
  const count = (): void => {
    if (!pending) return;
    turns += 1;
    setTimeout(count, 0);
  };
  setTimeout(count, 0);
  await work();
  pending = false;
  return turns;
}

native('the event loop turns while a tensor is compressed, decompressed and appended to', async (t) => {
  const packed = gear.compressSync(numbers, options);
  const turns = {
    compress: await turnsDuring(() => gear.compress(numbers, options)),
    append: await turnsDuring(() => gear.append(packed, numbers)),
    decompress: await turnsDuring(() => Promise.all(Array.from({ length: 4 }, () => gear.decompress(packed)))),
  };
  for (const [name, count] of Object.entries(turns)) t.true(count >= 1, `${name}: ${count} turns`);
  packed.dispose();
});

native('the event loop turns while a cache is put to rest and comes back', async (t) => {
  const { heads: kvHeads, headDim } = shape;
  const cache = new gear.GearCache({ layers: 2, kvHeads, headDim, preset: 'float16' });
  for (const layer of [0, 1]) cache.append(layer, numbers, numbers);
  const turns: Record<string, number> = {};
  turns['freeze'] = await turnsDuring(async () => {
    const frozen = await cache.freeze();
    turns['thaw'] = await turnsDuring(async () => (await frozen.thaw()).dispose());
    frozen.dispose();
  });
  for (const [name, count] of Object.entries(turns)) t.true(count >= 1, `${name}: ${count} turns`);
  cache.dispose();
});
