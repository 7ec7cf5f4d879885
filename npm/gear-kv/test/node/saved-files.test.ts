import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import * as gear from 'gear-kv';
import { kvNumbers } from '../suite/numbers.js';
import { refuses, rejects, sameBits } from '../suite/support.js';
import { emptyFolder } from './command.js';

const numbers = kvNumbers({ heads: 2, tokens: 100, headDim: 32 });

function filled(): gear.GearCache {
  const cache = new gear.GearCache({ layers: 2, kvHeads: 2, headDim: 32 });
  for (const layer of [0, 1]) cache.append(layer, numbers, numbers);
  return cache;
}

test('save and load, by path and by URL', async (t) => {
  const folder = emptyFolder();
  const cache = filled();
  const path = join(folder, 'chat one.gear');
  await cache.save(path);
  t.true(sameBits(readFileSync(path), cache.toBytes()));
  t.true(sameBits((await gear.GearCache.load(pathToFileURL(path))).toBytes(), cache.toBytes()));
  const other = join(folder, 'other.gear');
  await cache.save(pathToFileURL(other));
  const restored = await gear.GearCache.load(other, { backend: 'wasm' });
  t.is(restored.backend, 'wasm');
  t.true(sameBits(restored.toBytes(), cache.toBytes()));
  t.deepEqual(readdirSync(folder).sort(), ['chat one.gear', 'other.gear']);
});

test('what is saved is the cache at the time of the call, in place of what was there', async (t) => {
  const path = join(emptyFolder(), 'chat.gear');
  writeFileSync(path, 'an older file');
  const cache = filled();
  const before = cache.toBytes();
  const saving = cache.save(path);
  cache.append(0, numbers, numbers);
  cache.dispose();
  await saving;
  t.true(sameBits(readFileSync(path), before));
});

test('saving twice at the same time leaves one whole file', async (t) => {
  const folder = emptyFolder();
  const path = join(folder, 'chat.gear');
  const caches = [filled(), filled()];
  caches[1]?.truncate(10);
  await Promise.all(caches.map((cache) => cache.save(path)));
  t.true([10, 100].includes((await gear.GearCache.load(path)).tokens));
  t.deepEqual(readdirSync(folder), ['chat.gear']);
});

test('what is said of a cache is in its file, and read without the rest', async (t) => {
  const path = join(emptyFolder(), 'chat.gear');
  const about = { model: 'm', tokenIds: Uint32Array.from({ length: 100 }, (_, i) => i), metadata: { turn: 3 } };
  await filled().save(path, { about });
  t.deepEqual((await gear.GearCache.load(path)).about, about);
  const { model, tokenIds, metadata, tokens, kind } = await gear.readAbout(pathToFileURL(path));
  t.deepEqual({ model, tokenIds, metadata }, about);
  t.deepEqual([tokens, kind], [100, 'cache']);
  const frozen = await filled().freeze();
  await frozen.save(path, { about });
  t.deepEqual((await gear.FrozenCache.load(path)).about, about);
  t.is((await gear.readAbout(path, { backend: 'wasm' })).kind, 'frozen');
  await rejects(t, 'INVALID_OPTION', () => filled().save(path, { abuot: about } as never), /abuot/);
  await rejects(t, 'INVALID_OPTION', () => filled().save(path, { about: { model: 7 } } as never), /model/);
  await rejects(t, 'IO_FAILED', () => gear.readAbout(join(path, 'missing')), /could not be read/);
  await rejects(t, 'IO_FAILED', () => gear.readAbout(emptyFolder()), /could not be read/);
  writeFileSync(path, readFileSync(path).subarray(0, 100));
  await rejects(t, 'CORRUPT_DATA', () => gear.readAbout(path));
});

test('IO_FAILED: the system error is the cause, and the old file stays', async (t) => {
  const folder = emptyFolder();
  const cache = filled();
  const missing = join(folder, 'no/such/folder/chat.gear');
  const error = (await t.throwsAsync(cache.save(missing))) as gear.GearError;
  t.is(error.code, 'IO_FAILED');
  t.is((error.cause as NodeJS.ErrnoException).code, 'ENOENT');
  t.true(error.message.includes(missing));
  await rejects(t, 'IO_FAILED', () => gear.GearCache.load(missing), /ENOENT/);
  await rejects(t, 'IO_FAILED', () => gear.GearCache.load(folder), /could not be read/);
  await rejects(t, 'IO_FAILED', () => gear.GearCache.load(new URL('https://example.com/chat.gear')), /file: URL/);
  await rejects(t, 'INVALID_OPTION', () => cache.save(undefined as never), /path is undefined/);
  await rejects(t, 'INVALID_OPTION', () => cache.save(''), /path/);
  // A folder in the way: the rename fails at the very end, and what was written beside must not stay.
  const occupied = join(folder, 'occupied');
  mkdirSync(occupied);
  await rejects(t, 'IO_FAILED', () => cache.save(occupied));
  t.deepEqual(readdirSync(folder), ['occupied']);
});

test('a cache file that was cut short is CORRUPT_DATA', async (t) => {
  const path = join(emptyFolder(), 'chat.gear');
  await filled().save(path);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, bytes.length - 1));
  await rejects(t, 'CORRUPT_DATA', () => gear.GearCache.load(path));
  writeFileSync(path, '');
  await rejects(t, 'CORRUPT_DATA', () => gear.GearCache.load(path));
});

test('a sealed file is opened with its key alone', async (t) => {
  const path = join(emptyFolder(), 'chat.gear');
  const key = crypto.getRandomValues(new Uint8Array(32));
  const cache = filled();
  await cache.save(path, { key, about: { model: 'a name to look for' } });
  const bytes = readFileSync(path);
  t.is(bytes.indexOf('a name to look for'), -1);
  t.is(bytes.toString('latin1', 0, 8), 'GEARSEAL');
  const restored = await gear.GearCache.load(path, { key });
  t.is(restored.about?.model, 'a name to look for');
  t.true(sameBits(restored.toBytes(), cache.toBytes()));
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.load(path), /is sealed; pass the key/);
  await rejects(t, 'KEY_MISMATCH', () => gear.readAbout(path), /is sealed/);
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.load(path, { key: new Uint8Array(32) }), /another one/);
  writeFileSync(path, bytes.subarray(0, bytes.length - 1));
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.load(path, { key }));
  await cache.save(path);
  await rejects(t, 'KEY_MISMATCH', () => gear.GearCache.load(path, { key }), /not sealed/);
  const frozen = await cache.freeze();
  await frozen.save(path, { key });
  t.is((await gear.FrozenCache.load(path, { key })).tokens, 100);
  await rejects(t, 'INVALID_OPTION', () => frozen.save(path, { key: new Uint8Array(31) }), /31 bytes/);
  t.is((await gear.FrozenCache.load(path, { key })).tokens, 100, 'the old file stays');
});

test('a stream of Node is a source like any other', async (t) => {
  const cache = filled();
  const restored = await gear.GearCache.fromStream(Readable.from([cache.toBytes()]));
  t.true(sameBits(restored.toBytes(), cache.toBytes()));
});

test('a cache moves between the backends by its bytes', (t) => {
  const cache = filled();
  const native = gear.GearCache.fromBytes(cache.toBytes(), { backend: 'native' });
  const wasm = gear.GearCache.fromBytes(native.toBytes(), { backend: 'wasm' });
  t.deepEqual([native.backend, wasm.backend], ['native', 'wasm']);
  t.true(sameBits(native.key(1), wasm.key(1)));
  refuses(t, 'INVALID_OPTION', () => gear.GearCache.fromBytes(cache.toBytes(), { bakend: 'wasm' } as never), /bakend/);
});
