// gear-kv/transformers and gear-kv/ort as other code loads them, and what they leave behind.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import test from 'ava';
import * as gear from 'gear-kv';
import * as ort from 'gear-kv/ort';
import * as transformers from 'gear-kv/transformers';
import { narrowed } from '../../src/adapters/rows.js';
import { DynamicCache, generate, promptOf, SMALL, Tensor } from '../suite/fake-model.js';
import { sameBits } from '../suite/support.js';
import { emptyFolder, packageFolder } from './command.js';

const require = createRequire(import.meta.url);

test('the adapters work on the core that the application has', async (t) => {
  const cache = new DynamicCache();
  await generate(SMALL, { inputIds: promptOf(20), cache });
  for (const [adapter, core] of [
    [transformers, gear],
    [require('gear-kv/transformers') as typeof transformers, require('gear-kv') as typeof gear],
  ] as const) {
    using frozen = await adapter.freezeCache(cache);
    t.true(frozen.cache instanceof core.GearCache);
    t.is(adapter.init, core.init);
    const error = await t.throwsAsync(adapter.freezeCache({}));
    t.true(error instanceof gear.GearError);
  }
  t.is(typeof (require('gear-kv/ort') as typeof ort).freezeTensors, 'function');
  t.is(ort.init, gear.init);
});

test('loadFrozen opens what was sealed, from a file, bytes or a stream', async (t) => {
  const cache = new DynamicCache();
  const tokenIds = await generate(SMALL, { inputIds: promptOf(90), cache, newTokens: 2 });
  using frozen = await transformers.freezeCache(cache, { tokenIds });
  const key = crypto.getRandomValues(new Uint8Array(32));
  const path = join(emptyFolder(), 'prefix.gear');
  await frozen.save(path, { key });
  for (const sealed of [path, readFileSync(path), frozen.toStream({ key })]) {
    using opened = await transformers.loadFrozen(sealed, { key });
    t.true(sameBits(opened.toBytes(), frozen.toBytes()));
  }
  await t.throwsAsync(transformers.loadFrozen(path), { code: 'KEY_MISMATCH' });
  await t.throwsAsync(transformers.loadFrozen(readFileSync(path)), { code: 'KEY_MISMATCH' });
  await t.throwsAsync(transformers.loadFrozen(frozen.toBytes(), { key }), { code: 'KEY_MISMATCH' });
});

test('float16 is rounded as the core rounds it', (t) => {
  const headDim = 64;
  const values = Float32Array.from({ length: 64 * headDim }, (_, index) => {
    // From below the least subnormal to the largest, ties and zeros of both signs among them.
    const size = index % 7 === 0 ? 1 + (index % 2048) / 1024 + 2 ** -11 : 1 + Math.abs(Math.sin(index));
    return (index % 2 === 0 ? 1 : -1) * (index % 61 === 0 ? 0 : size) * 2 ** ((index % 42) - 27);
  });
  const kept = (preset: gear.Preset, data: gear.KvData): Float32Array => {
    using cache = new gear.GearCache({ layers: 1, kvHeads: 1, headDim, preset });
    cache.append(0, data, data);
    return cache.key(0);
  };
  t.true(sameBits(kept('float32', narrowed(values)), kept('float16', values)));
  t.deepEqual([...narrowed(Float32Array.of(65_519, 1e9, -1e9))], [0x7bff, 0x7bff, 0xfbff]);
});

test('nothing of the core, of transformers.js or of onnxruntime is in the bundles of the adapters', (t) => {
  for (const entry of ['transformers', 'ort', 'store']) {
    const source = readFileSync(join(packageFolder, `dist/${entry}.js`), 'utf8');
    const imported = [...source.matchAll(/^(?:import|export) .*?from ["'](.+?)["'];?$/gm)].map(([, from]) => from);
    t.deepEqual([...new Set(imported)], ['gear-kv'], entry);
    t.false(/import\(|gearkv_wasm|class GearCache\b/.test(source), entry);
  }
});

/** What the native module holds for JavaScript from its first use on, until it is released. */
function liveHandles(): Set<object> {
  const live = new Set<object>();
  const binding = require(join(packageFolder, 'dist/native/index.cjs')) as Record<string, { prototype: object }>;
  for (const name of ['Cache', 'Frozen', 'CacheReader', 'CacheWriter']) {
    const prototype = binding[name]?.prototype as Record<string, (...args: unknown[]) => unknown>;
    for (const method of Object.getOwnPropertyNames(prototype)) {
      const original = prototype[method];
      if (method === 'constructor' || typeof original !== 'function') continue;
      prototype[method] = function (this: object, ...args: unknown[]) {
        if (method === 'release') live.delete(this);
        else live.add(this);
        return original.apply(this, args);
      };
    }
  }
  return live;
}

// Alone: what other tests hold would be counted.
test.serial('50 rounds of everything leave nothing alive in the core', async (t) => {
  const live = liveHandles();
  const backend = 'native';
  const made = new DynamicCache();
  const tokenIds = await generate(SMALL, { inputIds: promptOf(90), cache: made, newTokens: 2 });
  for (let round = 0; round < 50; round++) {
    using cache = new transformers.GearDynamicCache({ preset: 'gear-4', backend });
    cache.update({ ...made } as never);
    await cache.settle();
    cache.tokenIds = tokenIds;
    cache.keepPrefixOf(tokenIds.slice(0, 50));
    using frozen = await transformers.freezeCache(cache);
    using atRest = await frozen.freeze();
    using loaded = await transformers.loadFrozen(atRest.toBytes(), { backend });
    await transformers.thawCache(loaded, { DynamicCache, Tensor });
    using first = await transformers.freezeCache(made, { tokenIds, backend });
    using second = await transformers.freezeCache(made, { tokenIds, extend: first });
    using again = new transformers.GearDynamicCache({ from: second, Tensor } as transformers.GearDynamicCacheOptions);
    await ort.thawTensors(second, { Tensor });
    await t.throwsAsync(transformers.freezeCache(made, { tokenIds: [1], backend }), { code: 'SHAPE_MISMATCH' });
    await t.throwsAsync(transformers.loadFrozen(first.cache.toBytes(), { backend }), { code: 'CORRUPT_DATA' });
    const signal = AbortSignal.timeout(0);
    await transformers.freezeCache(made, { tokenIds, backend, signal }).then(
      (late) => late.dispose(),
      () => {},
    );
    t.is(live.size, 7, 'what this round has not given back yet');
    t.is(again.get_seq_length(), 91);
  }
  t.is(live.size, 0);
});
