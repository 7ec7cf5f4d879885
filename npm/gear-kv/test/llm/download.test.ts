// Downloads that break, change and meet each other: continued where they were, and right or not there.
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type DownloadManner, download } from '../../src/llm/download.js';
import { emptyFolder } from '../node/command.js';
import { rejects } from '../suite/support.js';
import { server } from './server.js';

const bytes = Buffer.from(Uint32Array.from({ length: 300_000 }, (_, i) => Math.imul(i, 2_654_435_761)).buffer);
const changed = Buffer.from(bytes).reverse();
const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
const HALF = 500_000;
const quick: DownloadManner = { pauseMs: 1 };

type Answer = (response: ServerResponse, request: IncomingMessage, begin: number) => void;

/** A server whose n-th answer is the n-th of these, and its last one from there on; what ranges it was asked for. */
async function serving(
  t: ExecutionContext,
  ...answers: Answer[]
): Promise<{ url: URL; ranges: (string | undefined)[] }> {
  const ranges: (string | undefined)[] = [];
  const { url } = await server(t, (request, response) => {
    const answer = answers[Math.min(ranges.length, answers.length - 1)] as Answer;
    ranges.push(request.headers.range);
    answer(response, request, Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0));
  });
  return { url: new URL(`${url}/model.gguf`), ranges };
}

/** What a good server sends of `content`: a range where it was asked for one and the version is still the same. */
function head(content: Buffer, version: Record<string, string>): Answer {
  return (response, { headers }, begin) => {
    for (const [name, value] of Object.entries(version)) response.setHeader(name, value);
    const same = headers['if-range'] === undefined || Object.values(version).includes(String(headers['if-range']));
    const first = headers.range !== undefined && same ? begin : 0;
    response.setHeader('content-length', content.length - first);
    if (first > 0) {
      response.statusCode = 206;
      response.setHeader('content-range', `bytes ${first}-${content.length - 1}/${content.length}`);
    }
  };
}

const whole =
  (content: Buffer, version: Record<string, string> = { etag: '"1"' }): Answer =>
  (response, request, begin) => {
    head(content, version)(response, request, begin);
    response.end(content.subarray(response.statusCode === 206 ? begin : 0));
  };
/** Breaks the connection when another `count` bytes are through. */
const cut =
  (content: Buffer, count: number, version: Record<string, string> = { etag: '"1"' }): Answer =>
  (response, request, begin) => {
    head(content, version)(response, request, begin);
    const first = response.statusCode === 206 ? begin : 0;
    response.write(content.subarray(first, first + count), () => setTimeout(() => response.destroy(), 20));
  };
/** Sends `count` bytes and then nothing, until the other side is gone. */
const stall =
  (content: Buffer, count: number, version: Record<string, string> = { etag: '"1"' }): Answer =>
  (response, request, begin) => {
    head(content, version)(response, request, begin);
    response.write(content.subarray(0, count));
  };
const status =
  (code: number): Answer =>
  (response) =>
    response.writeHead(code).end();

function place(): { folder: string; path: string } {
  const folder = emptyFolder();
  return { folder, path: join(folder, 'model.gguf') };
}

/** A download that is stopped when so many bytes are there. */
async function stopped(t: ExecutionContext, url: URL, path: string, expected?: string, at = HALF): Promise<void> {
  const controller = new AbortController();
  const reason = new Error('enough');
  const onProgress = ({ receivedBytes }: { receivedBytes: number }): void => {
    if (receivedBytes >= at) controller.abort(reason);
  };
  const error = await t.throwsAsync(download(url, path, expected, { ...quick, signal: controller.signal, onProgress }));
  t.is(error, reason);
}

for (const [name, version] of [
  ['an ETag', { etag: '"1"' }],
  ['a date', { 'last-modified': 'Wed, 01 Jan 2025 00:00:00 GMT' }],
] as const) {
  test(`a connection that breaks again and again is taken up each time, by ${name}`, async (t) => {
    const { url, ranges } = await serving(t, cut(bytes, 200_000, version));
    const { folder, path } = place();
    const seen: number[] = [];
    await download(url, path, undefined, { ...quick, onProgress: ({ receivedBytes }) => seen.push(receivedBytes) });
    t.deepEqual(readFileSync(path), bytes);
    t.is(ranges[0], undefined);
    t.true(ranges.length >= 6, ranges.join(' '));
    t.true(ranges.slice(1).every((range) => /^bytes=\d+-$/.test(range ?? '')));
    t.deepEqual(
      seen,
      [...seen].sort((a, b) => a - b),
    );
    t.deepEqual(readdirSync(folder), ['model.gguf']);
  });
}

test('a download that was stopped is continued by the next call', async (t) => {
  const { url, ranges } = await serving(t, stall(bytes, HALF + 1000), whole(bytes));
  const { folder, path } = place();
  await stopped(t, url, path);
  t.regex(readdirSync(folder).join(), /^\.[^,]*\.free\.part$/);
  await download(url, path, sha256(bytes), quick);
  t.regex(String(ranges[1]), /^bytes=[1-9]\d{5,}-$/);
  t.deepEqual(readFileSync(path), bytes);
  t.deepEqual(readdirSync(folder), ['model.gguf']);
});

test('what has another address or name is not continued', async (t) => {
  const { url, ranges } = await serving(t, stall(bytes, HALF + 1000), whole(bytes));
  const { path } = place();
  await stopped(t, url, path);
  const begins: number[] = [];
  for (const [address, to] of [
    [new URL('?other', url), path],
    [url, `${path}.2`],
  ] as const) {
    begins.push(ranges.length);
    await download(address, to, undefined, quick);
    t.deepEqual(readFileSync(to), bytes);
  }
  // How each begins: a connection that breaks by itself may be taken up afterwards.
  t.deepEqual(
    begins.map((at) => ranges[at]),
    [undefined, undefined],
  );
});

test('a file that changed meanwhile is fetched anew', async (t) => {
  const { url } = await serving(t, stall(bytes, HALF + 1000), whole(changed, { etag: '"2"' }));
  const { folder, path } = place();
  await stopped(t, url, path);
  await download(url, path, undefined, quick);
  t.deepEqual(readFileSync(path), changed);
  t.deepEqual(readdirSync(folder), ['model.gguf']);
});

test('a server that sends a range of another version is not believed', async (t) => {
  const careless: Answer = (response, request, begin) => {
    delete request.headers['if-range'];
    whole(changed, { etag: '"2"' })(response, request, begin);
  };
  const { url, ranges } = await serving(t, stall(bytes, HALF + 1000), careless);
  const { path } = place();
  await stopped(t, url, path);
  await download(url, path, undefined, quick);
  t.deepEqual(readFileSync(path), changed);
  t.deepEqual(ranges.map(Boolean), [false, true, false]);
});

test('without a version the hash finds pieces that do not fit, and all is fetched anew', async (t) => {
  const { url, ranges } = await serving(t, stall(changed, HALF + 1000, {}), whole(bytes, {}));
  const { path } = place();
  await stopped(t, url, path, sha256(bytes));
  await download(url, path, sha256(bytes), quick);
  t.deepEqual(readFileSync(path), bytes);
  t.deepEqual(ranges.map(Boolean), [false, true, false]);
});

test('without a version and a hash nothing is kept', async (t) => {
  const { url, ranges } = await serving(t, stall(bytes, HALF + 1000, {}), whole(bytes, {}));
  const { folder, path } = place();
  await stopped(t, url, path);
  t.deepEqual(readdirSync(folder), []);
  await download(url, path, undefined, quick);
  t.deepEqual(ranges, [undefined, undefined]);
});

test('a server that knows no ranges sends everything again', async (t) => {
  const { url } = await serving(t, cut(bytes, HALF), (response) => {
    response.setHeader('content-length', bytes.length);
    response.end(bytes);
  });
  const { path } = place();
  await download(url, path, sha256(bytes), quick);
  t.deepEqual(readFileSync(path), bytes);
});

test('where all was there but its end, 416 says so', async (t) => {
  const unending: Answer = (response) => {
    response.setHeader('etag', '"1"');
    response.write(bytes);
  };
  const beyond =
    (total: number): Answer =>
    (response) =>
      response.writeHead(416, { 'content-range': `bytes */${total}` }).end();
  const { path } = place();
  const right = await serving(t, unending, beyond(bytes.length));
  await stopped(t, right.url, path, undefined, bytes.length);
  await download(right.url, path, undefined, quick);
  t.deepEqual(readFileSync(path), bytes);
  // It has become shorter.
  const shorter = await serving(t, unending, beyond(1000), whole(bytes.subarray(0, 1000)));
  await stopped(t, shorter.url, `${path}.2`, undefined, bytes.length);
  await download(shorter.url, `${path}.2`, undefined, quick);
  t.deepEqual(readFileSync(`${path}.2`), bytes.subarray(0, 1000));
  t.deepEqual(shorter.ranges.map(Boolean), [false, true, false]);
});

test('a busy server is asked again, a missing file is not', async (t) => {
  const { folder, path } = place();
  const busy = await serving(t, status(500), status(503), status(429), whole(bytes));
  await download(busy.url, path, undefined, quick);
  t.deepEqual(readFileSync(path), bytes);
  const broken = await serving(t, status(500));
  await rejects(t, 'IO_FAILED', () => download(broken.url, `${path}.2`, undefined, quick), /answered 500/);
  t.is(broken.ranges.length, 5);
  const missing = await serving(t, status(404));
  await rejects(t, 'IO_FAILED', () => download(missing.url, `${path}.3`, undefined, quick), /answered 404/);
  t.is(missing.ranges.length, 1);
  t.deepEqual(readdirSync(folder), ['model.gguf']);
});

test('too few bytes and too many have no place under the name of the file', async (t) => {
  const { folder, path } = place();
  const few = await serving(t, cut(bytes, 1000, {}));
  await rejects(t, 'IO_FAILED', () => download(few.url, path, undefined, quick));
  t.is(few.ranges.length, 5);
  const many = await serving(t, cut(bytes, HALF), (response, _, begin) => {
    response.writeHead(206, { etag: '"1"', 'content-range': `bytes ${begin}-${bytes.length - 1}/${bytes.length}` });
    response.end(Buffer.concat([bytes.subarray(begin), bytes]));
  });
  await rejects(t, 'IO_FAILED', () => download(many.url, path, undefined, quick), /more than the 1200000 bytes/);
  const other = await serving(t, whole(changed));
  await rejects(t, 'CORRUPT_DATA', () => download(other.url, path, sha256(bytes), quick), /SHA-256/);
  t.deepEqual(readdirSync(folder), []);
});

test('a pause before asking again ends with the signal', async (t) => {
  const controller = new AbortController();
  const reason = new Error('enough');
  const { url } = await serving(t, (response) => {
    response.writeHead(503).end();
    response.on('close', () => setTimeout(() => controller.abort(reason), 50));
  });
  const { folder, path } = place();
  const waiting = download(url, path, undefined, { pauseMs: 3_600_000, signal: controller.signal });
  t.is(await t.throwsAsync(waiting), reason);
  t.deepEqual(readdirSync(folder), []);
});

function otherProcess(url: URL, path: string): ChildProcess {
  const script = fileURLToPath(new URL('downloading.ts', import.meta.url));
  return spawn(process.execPath, ['--import=tsx', script, url.href, path, sha256(bytes)], { stdio: 'inherit' });
}

test('two processes and two calls that fetch the same file do not disturb each other', async (t) => {
  // Nobody gets the end before all have begun.
  const waiting: (() => void)[] = [];
  const { url } = await serving(t, (response, request, begin) => {
    head(bytes, { etag: '"1"' })(response, request, begin);
    response.write(bytes.subarray(0, HALF));
    waiting.push(() => response.end(bytes.subarray(HALF)));
    if (waiting.length === 4) for (const go of waiting) go();
  });
  const { folder, path } = place();
  const children = [otherProcess(url, path), otherProcess(url, path)];
  const exits = children.map((child) => once(child, 'exit'));
  await Promise.all([download(url, path, undefined, quick), download(url, path, undefined, quick)]);
  t.deepEqual(await Promise.all(exits), [
    [0, null],
    [0, null],
  ]);
  t.deepEqual(readFileSync(path), bytes);
  t.deepEqual(readdirSync(folder), ['model.gguf']);
});

test('what a process had when it was killed is continued by another', async (t) => {
  let begun = (): void => {};
  const hasBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  const { url, ranges } = await serving(
    t,
    (response, request, begin) => {
      head(bytes, { etag: '"1"' })(response, request, begin);
      response.write(bytes.subarray(0, HALF));
      begun();
    },
    whole(bytes),
  );
  const { folder, path } = place();
  const child = otherProcess(url, path);
  const exit = once(child, 'exit');
  await hasBegun;
  while (!readdirSync(folder).some((name) => readFileSync(join(folder, name)).length > 1000)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  child.kill('SIGKILL');
  await exit;
  await download(url, path, undefined, quick);
  t.regex(String(ranges[1]), /^bytes=[1-9]\d+-$/);
  t.deepEqual(readFileSync(path), bytes);
  t.deepEqual(readdirSync(folder), ['model.gguf']);
});
