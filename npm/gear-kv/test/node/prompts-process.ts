// What another process does with prompts: `get COUNT`, `put COUNT` or `many`, on the store that the environment names.

import * as gear from 'gear-kv';

/** A cache of this many tokens. */
export function filled(tokens: number): gear.GearCache {
  const cache = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: 64 });
  const values = Float32Array.from({ length: tokens * 64 }, (_, index) => (index % 97) / 50 - 1);
  cache.append(0, values, values);
  return cache;
}

/** The program, for `node --input-type=module -e`. */
export const PROMPTS_PROCESS = `
  const { GearCache } = await import('gear-kv');
  const { FileStore, PromptCache, RedisStore } = await import('gear-kv/store');
  const { REDIS_SOCKET, REDIS_PACKAGE, STORE_FOLDER, MAX_BYTES = String(1 << 26) } = process.env;
  let client;
  if (REDIS_SOCKET) {
    const { pathToFileURL } = await import('node:url');
    const redis = await import(pathToFileURL(REDIS_PACKAGE).href);
    client = await (redis.createClient ?? redis.default.createClient)({ socket: { path: REDIS_SOCKET } }).connect();
  }
  const store = client ? new RedisStore(client) : new FileStore(STORE_FOLDER);
  const prompts = new PromptCache({ store, model: 'm', maxBytes: Number(MAX_BYTES) });
  const [what, given] = process.argv.slice(1);
  const tokens = (count, from = 0) => Array.from({ length: count }, (_, index) => from + index);
  const filled = (count) => {
    const cache = new GearCache({ layers: 1, kvHeads: 1, headDim: 64 });
    const values = Float32Array.from({ length: count * 64 }, (_, index) => (index % 97) / 50 - 1);
    cache.append(0, values, values);
    return cache;
  };
  const count = Number(given);
  if (what === 'get') console.log((await prompts.get(tokens(count)))?.tokens ?? 0);
  if (what === 'put') {
    await prompts.put(tokens(count), filled(count));
    console.log('put');
  }
  if (what === 'many') {
    let wrong = 0;
    for (let round = 0; round < 60; round++) {
      const which = (round * count) % 9;
      await prompts.put(tokens(50 + which, which * 1000), filled(50 + which));
      const asked = (round * 7 + count) % 9;
      const hit = await prompts.get(tokens(50 + asked, asked * 1000));
      if (hit !== undefined && (hit.tokens !== 50 + asked || hit.cache.tokens !== hit.tokens)) wrong += 1;
      hit?.cache.dispose();
    }
    console.log(wrong);
  }
  await client?.close();
`;
