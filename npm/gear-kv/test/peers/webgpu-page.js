// Runs on a page: transformers.js on WebGPU, whose keys and values stay on the GPU, with caches of gear-kv.

import { freezeCache, GearDynamicCache, init, thawCache } from 'gear-kv/transformers';

const prompt = Array.from({ length: 80 }, (_, index) => 1 + ((index * index * 7 + 3) % 60));

async function run() {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) return { skipped: 'this browser has no WebGPU adapter' };
  await init();
  const library = await import(new URL('/transformers/transformers.js', location.href).href);
  const { AutoModelForCausalLM, DynamicCache, env, Tensor } = library;
  Object.assign(env, {
    allowRemoteModels: false,
    allowLocalModels: true,
    localModelPath: '/models/',
    useBrowserCache: false,
  });
  Object.assign(env.backends.onnx.wasm, { wasmPaths: new URL('/onnxruntime/', location.href).href, numThreads: 1 });
  const model = await AutoModelForCausalLM.from_pretrained('tiny', { dtype: 'fp32', device: 'webgpu' });
  const generate = (ids, options) => {
    const input_ids = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
    const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
    return model.generate({ input_ids, attention_mask, do_sample: false, eos_token_id: null, ...options });
  };
  const idsOf = ({ data }) => Array.from(data, Number);
  const locations = (cache) => [...new Set(Object.values(cache).map(({ location }) => location))];

  const first = await generate(prompt, { max_new_tokens: 4, return_dict_in_generate: true });
  const made = locations(first.past_key_values);
  const frozen = await freezeCache(first.past_key_values, { tokenIds: first.sequences, preset: 'float32' });
  const fetched = locations(first.past_key_values);
  const longer = [...idsOf(first.sequences), 5, 6, 7];
  const uncached = idsOf(await generate(longer, { max_new_tokens: 8 }));
  const past = await thawCache(frozen, { DynamicCache, Tensor, inputIds: longer });
  const thawed = idsOf(await generate(longer, { max_new_tokens: 8, past_key_values: past }));

  // A conversation: settled between calls, and not.
  const told = {};
  for (const settled of [true, false]) {
    const cache = new GearDynamicCache({ preset: 'float32' });
    cache.keepPrefixOf(prompt);
    const sequences = await generate(prompt, { max_new_tokens: 4, past_key_values: cache });
    if (settled) await cache.settle();
    const between = settled ? locations(cache) : undefined;
    const answer = idsOf(await generate([...idsOf(sequences), 5, 6, 7], { max_new_tokens: 8, past_key_values: cache }));
    await cache.settle();
    told[settled ? 'settled' : 'at once'] = {
      answer,
      between,
      tokens: cache.get_seq_length(),
      bytes: cache.byteLength,
    };
    await cache.dispose();
  }
  return { made, fetched, uncached, thawed, told };
}

globalThis.run = run;
