// A model that talks on a compressed cache.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { GearError, GearModel, type Message } from 'gear-kv/llm';
import { hiddenName } from '../../src/left-behind.js';
import { emptyFolder, ran, repository } from '../node/command.js';
import { refuses, rejects } from '../suite/support.js';
import { model, modelPath, story, withModel } from './talking.js';

const capital: Message[] = [{ role: 'user', content: 'What is the capital of France? Answer with one word.' }];

withModel('it says what it is', async (t) => {
  const { info } = await model();
  t.is(info.architecture, 'llama');
  t.deepEqual([info.layers, info.heads, info.kvHeads, info.headDim], [30, 9, 3, 64]);
  t.is(info.vocabulary, 49152);
});

withModel('text becomes tokens and text again', async (t) => {
  const talking = await model();
  for (const text of ['Hello, world!', '  two  spaces\n\tand a tab', 'héllo wörld', '日本語のテキスト', '🚀🧑‍🚀', '']) {
    t.is(talking.detokenize(talking.tokenize(text, { addBos: false })), text);
  }
  const chat = talking.renderChat([{ role: 'system', content: 'Be brief.' }, ...capital]);
  t.is(
    chat,
    `<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n${capital[0]?.content}<|im_end|>\n<|im_start|>assistant\n`,
  );
  // The marks of the template are one token each.
  t.is(talking.tokenize('<|im_start|>', { addBos: false }).length, 1);
});

withModel('an answer comes in pieces, and is the same each time', async (t) => {
  const talking = await model();
  const pieces: string[] = [];
  const generation = talking.generate(capital, { maxTokens: 24 });
  t.is(generation.result, undefined);
  for await (const piece of generation) pieces.push(piece);
  t.true(pieces.length > 1);
  const result = generation.result;
  t.is(result?.text, pieces.join(''));
  t.regex(pieces.join(''), /Paris/);
  t.true(result !== undefined && result.promptTokens > 10 && result.decodeSeconds > 0);
  t.is(await talking.generate(capital, { maxTokens: 24 }).text(), pieces.join(''));
  await t.throwsAsync(generation.text(), { message: /iterated over already/ });
});

withModel('every preset talks, and the compressed cache is smaller', async (t) => {
  const talking = await model();
  const question: Message[] = [{ role: 'user', content: `${story}\n\nWho climbed the steps?` }];
  const size = new Map<string, number>();
  for (const cache of ['float16', 'gear-4', 'gear-2'] as const) {
    using session = talking.session({ cache });
    const text = await session.generate(question, { maxTokens: 16 }).text();
    t.regex(text, /keeper/i, cache);
    size.set(cache, session.stats().byteLength);
    t.is(session.stats().tokens, session.tokens.length);
    const { attention, matmul } = session.timings();
    t.true(attention > 0 && matmul > 0);
  }
  const [exact = 0, four = 0, two = 0] = size.values();
  t.true(four < exact / 1.8 && two < four, `${exact} ${four} ${two}`);
});

withModel('sampling: a seed repeats itself, another differs, and stop texts are kept out', async (t) => {
  const talking = await model();
  const options = { maxTokens: 24, temperature: 1.2, topP: 0.95, topK: 40 };
  const say = (seed: number): Promise<string> => talking.generate('Once upon a time', { ...options, seed }).text();
  t.is(await say(1), await say(1));
  t.not(await say(1), await say(2));
  const whole = await talking.generate('One, two, three, four,', { maxTokens: 24 }).text();
  const stop = whole.slice(8, 14);
  const stopped = talking.generate('One, two, three, four,', { maxTokens: 24, stop });
  t.is(await stopped.text(), whole.slice(0, whole.indexOf(stop)));
  t.is(stopped.result?.reason, 'stop');
  const short = talking.generate('One, two, three, four,', { maxTokens: 3 });
  await short.text();
  t.is(short.result?.reason, 'length');
  t.is(short.result?.tokens.length, 3);
});

withModel('a conversation goes on where it was: only what is new is computed', async (t) => {
  const talking = await model();
  using session = talking.session();
  const first = session.generate(capital, { maxTokens: 16 });
  const answer = await first.text();
  const asked: Message[] = [
    ...capital,
    { role: 'assistant', content: answer },
    { role: 'user', content: 'And of Italy?' },
  ];
  const second = session.generate(asked, { maxTokens: 16 });
  await second.text();
  const all = talking.tokenize(talking.renderChat(asked), { addBos: false }).length;
  t.true((second.result?.promptTokens ?? all) < all / 2, `${second.result?.promptTokens} of ${all}`);
  // A fork goes its own way.
  using fork = session.fork();
  const held = session.stats().tokens;
  await fork.generate(' More', { maxTokens: 4 }).text();
  t.is(session.stats().tokens, held);
  t.true(fork.stats().tokens > held);
  session.truncate(5);
  t.is(session.tokens.length, 5);
  session.clear();
  t.is(session.stats().tokens, 0);
});

withModel('a parked conversation is saved, restored, and goes on as if nothing had been', async (t) => {
  const talking = await model();
  using session = talking.session({ cache: { preset: 'gear-4', value: { preset: 'gear-2' } } });
  await session.generate([{ role: 'user', content: story }], { maxTokens: 8 }).text();
  const folder = emptyFolder();
  const path = join(folder, 'chat.gear');
  // What a process that was killed in the middle of this would have left.
  const { pid } = spawnSync(process.execPath, ['--version']);
  writeFileSync(join(folder, hiddenName('chat.gear').replace(`-${process.pid}-`, `-${pid}-`)), 'half of it');
  await session.save(path);
  t.deepEqual(readdirSync(folder), ['chat.gear']);
  using restored = await talking.restoreFile(path);
  t.deepEqual(restored.tokens, session.tokens);
  t.is(restored.stats().byteLength, session.stats().byteLength);
  const [a, b] = [session, restored].map((one) => one.generate(' And then', { maxTokens: 12 }).text());
  t.is(await a, await b);
  const bytes = readFileSync(path);
  await rejects(t, 'CORRUPT_DATA', async () => talking.restore(bytes.subarray(0, bytes.length - 1)));
  await rejects(t, 'CORRUPT_DATA', async () => talking.restore(new Uint8Array(8)));
});

withModel('an aborted answer rejects with the reason, and the session can be used again', async (t) => {
  const talking = await model();
  using session = talking.session();
  const reason = new Error('enough');
  const controller = new AbortController();
  const long: Message[] = [{ role: 'user', content: story.repeat(4) }];
  const started = performance.now();
  const aborted = session.generate(long, { signal: controller.signal }).text();
  setTimeout(() => controller.abort(reason), 20);
  t.is(await t.throwsAsync(aborted), reason);
  t.true(performance.now() - started < 2000);
  t.regex(await session.generate(capital, { maxTokens: 16 }).text(), /Paris/);

  const second = new AbortController();
  let pieces = 0;
  const error = await t.throwsAsync(async () => {
    for await (const _ of session.generate(capital, { signal: second.signal })) {
      pieces += 1;
      if (pieces === 2) second.abort(reason);
    }
  });
  t.is(error, reason);
  t.is(await t.throwsAsync(session.generate(capital, { signal: AbortSignal.abort(reason) }).text()), reason);
});

withModel('leaving the loop stops the work; a second answer at the same time is BUSY', async (t) => {
  const talking = await model();
  using session = talking.session();
  for await (const _ of session.generate(capital)) break;
  const held = session.stats().tokens;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(session.stats().tokens, held);
  const [first, second] = [session.generate(capital, { maxTokens: 4 }), session.generate(capital, { maxTokens: 4 })];
  const running = first.text();
  await rejects(t, 'BUSY', () => second.text());
  t.regex(await running, /\w/);
});

withModel('perplexity: better than chance, and best uncompressed', async (t) => {
  const talking = await model();
  const exact = await talking.perplexity(story, { cache: 'float16' });
  t.true(exact.perplexity > 1 && exact.perplexity < 30, String(exact.perplexity));
  t.is(exact.tokens, talking.tokenize(story).length - 1);
  const rough = await talking.perplexity(story, { cache: 'uniform-2' });
  t.true(rough.perplexity > exact.perplexity && rough.cacheBytes < exact.cacheBytes);
  const signal = AbortSignal.abort(new Error('no'));
  await t.throwsAsync(talking.perplexity(story, { signal }), { message: 'no' });
});

withModel('evaluate: float16 differs from itself by nothing, and fewer bits differ by more', async (t) => {
  const talking = await model();
  const ids = [...talking.tokenize(story.repeat(2))].slice(0, 300);
  const windows = { promptTokens: 200, continuationTokens: 99, tokenIds: [ids] };
  const { rows, float16Perplexity } = await talking.evaluate(windows, { presets: ['float16', 'gear-4', 'gear-2'] });
  t.deepEqual(
    rows.map(({ preset }) => preset),
    ['float16', 'gear-4', 'gear-2'],
  );
  const [exact, four, two] = rows;
  t.true(exact !== undefined && four !== undefined && two !== undefined);
  t.true(Math.abs(exact?.kl ?? 1) < 1e-5 && exact?.top1 === 1);
  t.true(Math.abs((exact?.perplexity ?? 0) / float16Perplexity - 1) < 1e-3);
  t.true((four?.kl ?? 0) > 0 && (four?.kl ?? 0) < (two?.kl ?? 0));
  t.true((two?.bitsPerElement ?? 0) < (four?.bitsPerElement ?? 0) && (four?.bitsPerElement ?? 0) < 16);
});

withModel('wrong arguments are refused by name', async (t) => {
  const talking = await model();
  const say = (options: object): unknown => talking.generate('x', options as never);
  refuses(t, 'INVALID_OPTION', () => say({ maxtokens: 3 }), /maxtokens/);
  refuses(t, 'INVALID_OPTION', () => say({ maxTokens: 0 }), /maxTokens is 0/);
  refuses(t, 'INVALID_OPTION', () => say({ temperature: -1 }), /temperature is -1/);
  refuses(t, 'INVALID_OPTION', () => say({ topP: 1.5 }), /topP is 1\.5/);
  refuses(t, 'INVALID_OPTION', () => say({ stop: [''] }), /stop/);
  refuses(t, 'INVALID_OPTION', () => say({ signal: {} }), /signal/);
  refuses(t, 'INVALID_OPTION', () => say({ cache: 'gear-9' }), /gear-9/);
  refuses(t, 'INVALID_OPTION', () => talking.generate([]), /messages/);
  refuses(t, 'INVALID_OPTION', () => talking.generate([{ role: 'user' } as never]), /messages\[0\]/);
  refuses(t, 'SHAPE_MISMATCH', () => talking.session().truncate(3));
  await rejects(t, 'INVALID_OPTION', () => talking.evaluate({} as never, { presets: ['gear-4'] }), /promptTokens/);
  await rejects(t, 'INVALID_OPTION', () => GearModel.load(modelPath as string, { cache: 'gear-9' as never }), /gear-9/);
});

withModel('a context that is full is refused, and the session stays usable', async (t) => {
  const talking = await model();
  using session = talking.session();
  const tooLong = 'word '.repeat(talking.info.contextLength + 10);
  await rejects(t, 'OUT_OF_RANGE', () => session.generate(tooLong).text(), /context/);
  t.regex(await session.generate(capital, { maxTokens: 16 }).text(), /Paris/);
});

withModel('what was disposed of says so', async (t) => {
  const talking = await GearModel.load(readFileSync(modelPath as string));
  const session = talking.session();
  session.dispose();
  session.dispose();
  refuses(t, 'DISPOSED', () => session.generate('x'));
  refuses(t, 'DISPOSED', () => session.tokens);
  const alive = talking.session();
  talking.dispose();
  talking.dispose();
  refuses(t, 'DISPOSED', () => talking.session());
  refuses(t, 'DISPOSED', () => talking.tokenize('x'));
  // The weights stay for as long as a session needs them.
  t.is(alive.stats().tokens, 0);
  alive[Symbol.dispose]();
});

test('a file that is no model is refused, wherever it is cut', async (t) => {
  const folder = emptyFolder();
  const path = join(folder, 'bad.gguf');
  const load = (bytes: Uint8Array): Promise<unknown> => {
    writeFileSync(path, bytes);
    return GearModel.load(path);
  };
  await rejects(t, 'CORRUPT_DATA', () => load(new Uint8Array()));
  await rejects(t, 'CORRUPT_DATA', () => load(new TextEncoder().encode('not a model at all, but text')));
  await rejects(t, 'CORRUPT_DATA', () => GearModel.load(new Uint8Array([0x47, 0x47, 0x55, 0x46])));
  await rejects(t, 'IO_FAILED', () => GearModel.load(join(folder, 'nowhere.gguf')), /nowhere/);
  if (modelPath !== undefined) {
    const bytes = readFileSync(modelPath);
    for (const length of [100, 10_000, 3_000_000, bytes.length - 1]) {
      const error = await t.throwsAsync(load(bytes.subarray(0, length)));
      t.true(error instanceof GearError && error.code === 'CORRUPT_DATA', `${length}: ${error?.message}`);
    }
  }
});

withModel('Bun runs it as well', async (t) => {
  const source = `import { GearModel } from 'gear-kv/llm';
    const model = await GearModel.load(${JSON.stringify(modelPath)}, { cache: 'gear-4' });
    console.log(await model.generate([{ role: 'user', content: 'What is the capital of France?' }], { maxTokens: 12 }).text());`;
  const { code, stdout, stderr } = await ran(join(repository, 'node_modules/bun/bin/bun.exe'), ['-e', source]);
  t.is(code, 0, stderr);
  t.regex(stdout, /Paris/);
});
