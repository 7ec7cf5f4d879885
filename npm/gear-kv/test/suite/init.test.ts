import test from 'ava';
import { environment, gear, hasBothBackends, otherBackend, refuses, rejects } from './support.js';

test('init can be called again, and at the same time', async (t) => {
  await Promise.all([gear.init(), gear.init(), gear.init()]);
  await gear.init();
  const { name, version, simd } = gear.backend();
  t.is(name, environment.backend);
  t.regex(version, /^\d+\.\d+\.\d+/);
  t.regex(simd, name === 'wasm' ? /^(simd128|scalar)$/ : /^(avx512|avx2|dotprod|neon|scalar)$/);
  if (environment.simd !== undefined) t.is(simd, environment.simd);
});

test('loadBackend says what it loaded', async (t) => {
  t.deepEqual(await gear.loadBackend(environment.backend), gear.backend());
  t.deepEqual(await gear.loadBackend('auto'), gear.backend());
  if (hasBothBackends) {
    t.is((await gear.loadBackend(otherBackend)).name, otherBackend);
    t.is(gear.backend().name, environment.backend, 'the default stays what it was');
  } else {
    await rejects(t, 'BACKEND_UNAVAILABLE', () => gear.loadBackend(otherBackend), /entry point/);
  }
  await rejects(t, 'INVALID_OPTION', () => gear.loadBackend('gpu' as never), /gpu/);
});

// A second copy of the package, which nobody has started.
test.serial('before init, in a browser', async (t) => {
  if (environment.runtime !== 'chromium') {
    t.pass('Node, Deno and Bun need no init');
    return;
  }
  const fresh = await import('gear-kv/wasm');
  const shape = { heads: 1, tokens: 1, headDim: 1 };
  const compress = (): unknown => fresh.compressSync(new Float32Array(1), { shape, role: 'key' });
  refuses(t, 'BACKEND_UNAVAILABLE', compress, /await init\(\) first/);
  refuses(t, 'BACKEND_UNAVAILABLE', () => fresh.backend(), /await init\(\) first/);
  refuses(t, 'BACKEND_UNAVAILABLE', () => new fresh.GearCache({ layers: 1, kvHeads: 1, headDim: 1 }), /init/);
  await rejects(t, 'BACKEND_UNAVAILABLE', () => fresh.init('/no/such/file.wasm'), /404|fetched/);
  await rejects(t, 'BACKEND_UNAVAILABLE', () => fresh.init(new Uint8Array([1, 2, 3])), /WebAssembly/);
  await rejects(t, 'BACKEND_UNAVAILABLE', () => fresh.init(new Response('gone', { status: 410 })), /410/);
  await rejects(t, 'INVALID_OPTION', () => fresh.init(7 as never), /init\(\) was given 7/);
  // After failures it can be tried again, in every form.
  await Promise.all([fresh.default(), fresh.init(), fresh.init()]);
  t.is(fresh.backend().name, 'wasm');
  t.true(compress() instanceof fresh.CompressedTensor);
});
