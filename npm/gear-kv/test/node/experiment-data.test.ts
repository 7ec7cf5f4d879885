// Data sets of experiments: what a server gives, and what a table of questions becomes.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { hubQuestions } from '../../src/experiment/data/hub.js';
import { type HubFile, type HubOptions, hubText } from '../../src/experiment/data/hub-file.js';
import { mmluQuestions } from '../../src/experiment/data/mmlu.js';
import { server } from '../llm/server.js';
import { emptyFolder } from './command.js';

const HEAD = 'question,choice0,choice1,choice2,choice3,answer\n';
const TEXT = `${HEAD}${'"What is 2, doubled?",4,2,"1,000",0,0\n'.repeat(5000)}`;
const FILE: HubFile = {
  repository: 'someone/questions',
  commit: 'c0ffee',
  path: 'data/test/sums.csv',
  sha256: createHash('sha256').update(TEXT).digest('hex'),
};

type Answer = Parameters<typeof server>[1];

/** Options that ask a server with these answers, the last one from there on; what it was asked for. */
async function from(t: ExecutionContext, ...answers: Answer[]): Promise<{ options: HubOptions; asked: string[] }> {
  let next = 0;
  const { url, asked } = await server(t, (request, response) => {
    const answer = answers[Math.min(next, answers.length - 1)];
    next += 1;
    answer?.(request, response);
  });
  return { options: { origin: url, folder: emptyFolder(), pauseMs: 1 }, asked };
}

const whole: Answer = (_, response) => response.end(TEXT);
/** Breaks the connection after half of it. */
const cut: Answer = (_, response) => {
  response.setHeader('content-length', TEXT.length);
  response.write(TEXT.slice(0, TEXT.length / 2), () => setTimeout(() => response.destroy(), 20));
};

test('a file of a data set is downloaded once, from its repository at its commit', async (t) => {
  const { options, asked } = await from(t, whole);
  t.is(await hubText(FILE, options), TEXT);
  t.is(await hubText(FILE, options), TEXT);
  t.deepEqual(asked, ['/someone/questions/c0ffee/data/test/sums.csv']);
  const [name = '', ...others] = readdirSync(options.folder ?? '');
  t.is(name, `${FILE.sha256.slice(0, 12)}-sums.csv`);
  t.deepEqual(others, []);
  t.is(readFileSync(join(options.folder ?? '', name), 'utf8'), TEXT);
});

test('a connection that is cut is taken up again, and where it stays cut nothing has the name of the file', async (t) => {
  const once = await from(t, cut, whole);
  t.is(await hubText(FILE, once.options), TEXT);
  t.is(once.asked.length, 2);
  const { options } = await from(t, cut);
  await t.throwsAsync(hubText(FILE, options), { code: 'IO_FAILED' });
  t.false(readdirSync(options.folder ?? '').some((name) => name.endsWith('sums.csv')));
});

test('another content and a missing file are refused, each group of each data set by its own hash', async (t) => {
  const { options, asked } = await from(t, (_, response) => response.end(`${TEXT} `));
  await t.throwsAsync(hubText(FILE, options), { code: 'CORRUPT_DATA', message: new RegExp(FILE.sha256) });
  for (const [name, group] of [
    ['gsm8k', ''],
    ['bbh', 'snarks'],
    ['mmlu', 'anatomy'],
  ] as const) {
    await t.throwsAsync(hubQuestions(name, group, options), { code: 'CORRUPT_DATA', message: /expected [0-9a-f]{64}/ });
  }
  t.deepEqual(readdirSync(options.folder ?? ''), []);
  t.deepEqual(
    asked.map((path) => path.split('/').at(-1)),
    ['sums.csv', 'test.jsonl', 'snarks.json', 'anatomy_test.csv'],
  );
  const missing = await from(t, (_, response) => response.writeHead(404).end());
  await t.throwsAsync(hubText(FILE, missing.options), { code: 'IO_FAILED', message: /404/ });
  t.is(missing.asked.length, 1);
  await t.throwsAsync(hubQuestions('mmlu', 'gardening', missing.options), {
    code: 'INVALID_OPTION',
    message: /gardening/,
  });
});

test('a table of MMLU becomes questions as its exemplars are', (t) => {
  const table = `${HEAD}"Which ""dish"", of these?\nOne.",A bowl,"a, b and c", Two spaces ,-1,3\nNext?,0,1,2,3,0\n`;
  t.deepEqual(mmluQuestions(table, 'x.csv'), [
    { question: 'Which "dish", of these?\nOne.\n(A) A bowl (B) a, b and c (C) Two spaces (D) -1', answer: '(D)' },
    { question: 'Next?\n(A) 0 (B) 1 (C) 2 (D) 3', answer: '(A)' },
  ]);
  for (const [bad, message] of [
    [`${HEAD}Q?,a,b,c,d,4\n`, /question 1 of x\.csv/],
    [`${HEAD}Q?,a,b,c,d,0\nQ?,a,,c,d,1\n`, /question 2 of x\.csv/],
    [`${HEAD}Q?,a,b,c,d\n`, /x\.csv.*line 2/],
    [`${HEAD}Q?,a,b,c,d,e,1\n`, /x\.csv.*line 2/],
    [`${HEAD}"Q?,a,b,c,d,1\n`, /x\.csv/],
    ['Q?,a,b,c,d,1\n', /begins with Q\?/],
    ['', /begins with/],
  ] as const) {
    t.throws(() => mmluQuestions(bad, 'x.csv'), { code: 'CORRUPT_DATA', message }, bad);
  }
});
