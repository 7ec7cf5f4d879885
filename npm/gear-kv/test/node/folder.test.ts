import { writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { FileStore } from 'gear-kv/store';
import { makeFolder } from '../../src/folder.js';
import { emptyFolder } from './command.js';

test('a folder is made with those above it, by several at once, and again', async (t) => {
  const folder = emptyFolder();
  const deep = join(folder, 'a', 'b', 'c');
  await Promise.all([makeFolder(deep), makeFolder(deep), makeFolder(join(folder, 'a', 'd'))]);
  await makeFolder(`${deep}/`);
  t.deepEqual((await readdir(join(folder, 'a'))).sort(), ['b', 'd']);
});

test('a file in the way is an error', async (t) => {
  const file = join(emptyFolder(), 'file');
  writeFileSync(file, '');
  await t.throwsAsync(makeFolder(file), { code: 'EEXIST' });
  await t.throwsAsync(makeFolder(join(file, 'below')), { code: 'EEXIST' });
});

const onLinux = process.platform === 'linux' ? test : test.skip;

onLinux('a file system without new folders is an error, and not waited for', async (t) => {
  await t.throwsAsync(makeFolder('/proc/gear-kv/deep'), { code: 'ENOENT' });
  const bytes = (async function* () {
    yield new Uint8Array(1);
  })();
  await t.throwsAsync(new FileStore('/proc/gear-kv').put('name', bytes), { code: 'IO_FAILED' });
});
