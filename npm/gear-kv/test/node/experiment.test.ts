// What experiments are made of: answers, data, the journal.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { AnsweredExample } from '../../src/experiment/answering.js';
import { finalAnswer, targetAnswer } from '../../src/experiment/answers.js';
import { ownExamples } from '../../src/experiment/data/own.js';
import { withoutExamples } from '../../src/experiment/data/tasks.js';
import { Journal } from '../../src/experiment/journal.js';
import { assertFits, bytesLeft } from '../../src/experiment/memory.js';
import { shortNames } from '../../src/experiment/short-names.js';
import { scoreSentence, scores, scoreTable } from '../../src/experiment/tables.js';
import { emptyFolder, gearKv } from './command.js';

test('a number is what the text says that the answer is, else the last one', (t) => {
  t.is(finalAnswer('5 and 4 are 9. The answer is 9.', 'number'), '9');
  t.is(finalAnswer('So the final answer is: $1,200.50, of 3 kinds', 'number'), '1200.5');
  t.is(finalAnswer('The answer is 4. No: the answer is -7.', 'number'), '-7');
  t.is(finalAnswer('He has 3 apples and 12 pears', 'number'), '12');
  t.is(finalAnswer('The answer is unknown, maybe 8', 'number'), '8');
  t.is(finalAnswer('Nothing at all', 'number'), undefined);
  t.is(finalAnswer('The answer is 3/2.', 'number'), '1.5');
  t.is(finalAnswer('So 20 cups of feed = 20 cu', 'number', true), undefined);
  t.is(finalAnswer('The answer is 7. And then, and th', 'number', true), '7');
  t.is(targetAnswer('2+2=<<2+2=4>>4\n#### 1,319', 'number'), '1319');
});

test('a letter is that of a choice, not any capital', (t) => {
  t.is(finalAnswer('(A) is wrong. The answer is (C).', 'letter'), 'C');
  t.is(finalAnswer('Answer: B', 'letter'), 'B');
  t.is(finalAnswer('It is D.', 'letter'), 'D');
  t.is(finalAnswer('I think that Paris', 'letter'), undefined);
  t.is(targetAnswer('(B)', 'letter'), 'B');
});

test('agreement is with the answers that there are on float16', (t) => {
  const said = { text: '', ended: true, tokens: 8, until: 8, identical: true, kl: 0.5, top1: 1, bits: 4 };
  const example = (id: string, exact: string | null, other: string | null): AnsweredExample => {
    const beside = (cache: string, answer: string | null): AnsweredExample['answers'][number] => ({
      ...said,
      cache,
      answer,
      correct: answer === '7',
      same: exact === null ? null : answer === exact,
    });
    const answers = [beside('float16', exact), beside('gear-4', other)];
    return { id, task: 'sums', target: '7', promptTokens: 9, answers };
  };
  const examples = [example('a', '7', '7'), example('b', '8', '7'), example('c', null, null), example('d', null, '7')];
  const [exact, other] = scores(examples);
  t.like(exact, { examples: 4, answered: 2, same: 1, accuracy: 0.25 });
  t.like(other, { examples: 4, answered: 2, same: 0.5, accuracy: 0.75 });
  t.is(scores([example('c', null, '7')])[1]?.same, null);
  t.notRegex(scoreSentence('Sums', scores([example('c', null, '7')])), /null|answers the same/);
  t.regex(scoreSentence('Sums', scores(examples)), /50\.0 % of float16's 2 answers the same/);
  t.regex(scoreTable('sums', 'Sums', scores(examples)).note ?? '', /^4 examples, 2 of them with an answer on float16/);
});

test('words are those behind "the answer is", and nothing else', (t) => {
  t.is(finalAnswer("Let's see. So the answer is True.\nQ: more", 'words'), 'true');
  t.is(finalAnswer('So the answer is (D).', 'words'), '(d)');
  t.is(finalAnswer('True', 'words'), undefined);
  t.is(targetAnswer('True', 'words'), 'true');
  t.is(targetAnswer('(not x) is True. So the answer is False.', 'words'), 'false');
});

test('data of somebody: bad lines are left out and named, and a file of nothing else is refused', async (t) => {
  const file = join(emptyFolder(), 'mine.jsonl');
  const lines = [
    '{"question":"1+1?","answer":"#### 2"}',
    '{"question":',
    '{"answer":"3"}',
    '',
    '{"question":"2+2?","answer":4}',
  ];
  writeFileSync(file, lines.join('\n'));
  const { kind, examples, remarks } = await ownExamples(file);
  t.is(kind, 'number');
  t.deepEqual(
    examples.map(({ answer }) => answer),
    ['#### 2', '4'],
  );
  t.is(remarks.length, 2);
  t.regex(remarks[0] ?? '', /line 2 .* not JSON/);
  t.regex(remarks[1] ?? '', /line 3 .*"question"/);
  writeFileSync(file, 'nothing\n');
  await t.throwsAsync(ownExamples(file), { code: 'CORRUPT_DATA', message: /line 1/ });
  await t.throwsAsync(ownExamples(`${file}.absent`), { code: 'IO_FAILED' });
  writeFileSync(file, '{"question":"Which?","answer":"(A)"}\n{"question":"And?","answer":"B"}\n');
  t.is((await ownExamples(file)).kind, 'letter');
  writeFileSync(file, '{"question":"3+4?","answer":"3 + 4 = 7. The answer is 7."}\n');
  t.is((await ownExamples(file)).kind, 'number');
  writeFileSync(file, '{"question":"Who?","answer":"Ada"}\n');
  t.is((await ownExamples(file)).kind, 'words');
});

test('a seed draws the examples: each once, the first of many those of few; without one they are the first of the file', async (t) => {
  const file = join(emptyFolder(), 'sums.jsonl');
  const lines = Array.from({ length: 40 }, (_, index) => `{"question":"1+${index}?","answer":"#### ${1 + index}"}`);
  writeFileSync(file, lines.join('\n'));
  const asked = async (limit: number, seed?: number): Promise<string[]> => {
    const [task] = await withoutExamples({ limit, seed, data: [file], remark: () => t.fail() });
    return task?.examples.map(({ id, target }) => `${id.split('/').at(-1)} ${target}`) ?? [];
  };
  const inOrder = lines.map((_, index) => `${index} ${1 + index}`);
  t.deepEqual(await asked(3), inOrder.slice(0, 3));
  const drawn = await asked(100, 7);
  t.deepEqual(await asked(5, 7), drawn.slice(0, 5));
  t.notDeepEqual(drawn, inOrder);
  t.notDeepEqual(await asked(100, 8), drawn);
  t.deepEqual(drawn.toSorted(), inOrder.toSorted());
});

test('what cannot fit the memory that is left is refused before it is tried', (t) => {
  t.true(bytesLeft() > 1e6);
  t.notThrows(() => assertFits('a cache', 1e6));
  t.throws(() => assertFits('a cache', 3e9, 2e9), {
    code: 'INVALID_OPTION',
    message: /a cache takes at least 3\.00 GB of memory, and 2\.00 GB are left; .*the same command goes on/,
  });
});

test('names of models are what tells them apart, in whole words, and never nothing', (t) => {
  for (const [names, short] of [
    [
      ['SmolLM2-135M.F16', 'SmolLM2-135M.Q8_0', 'SmolLM2-135M.Q4_K_M'],
      ['F16', 'Q8_0', 'Q4_K_M'],
    ],
    [
      ['model.Q4_K_M', 'model.Q4_K_S'],
      ['Q4_K_M', 'Q4_K_S'],
    ],
    [
      ['SmolLM2-135M-Instruct.F16', 'SmolLM2-135M-GSM8k.F16'],
      ['Instruct', 'GSM8k'],
    ],
    [
      ['Llama-2-7b.Q8_0', 'Llama-2-7b-chat.Q8_0'],
      ['7b', '7b-chat'],
    ],
    [
      ['base', 'tuned'],
      ['base', 'tuned'],
    ],
    [
      ['a-b', 'a-b-b'],
      ['a', 'a-b'],
    ],
  ] as const) {
    t.deepEqual(shortNames(names), short);
  }
});

test('a journal has what was finished, drops what was cut off, and refuses another experiment', async (t) => {
  const folder = join(emptyFolder(), 'out');
  const identity = { experiment: 'ratio', limit: 3, presets: [{ name: 'a' }] };
  const first = await Journal.open(folder, identity);
  await first.add('one', 1.5, { kl: 0.25, none: null });
  await first.add('two', 0.5, [1, 2]);
  await first.close();
  const path = join(folder, 'journal.jsonl');
  // Killed in the middle of a line.
  appendFileSync(path, '{"key":"three","seconds":1,"res');
  const second = await Journal.open(folder, identity);
  t.is(second.units, 2);
  t.is(second.seconds, 2);
  t.deepEqual(second.result('one'), { kl: 0.25, none: null });
  t.false(second.has('three'));
  await second.add('three', 1, 3);
  await second.close();
  t.is(readFileSync(path, 'utf8').trim().split('\n').length, 4);
  const third = await Journal.open(folder, identity);
  t.is(third.result('three'), 3);
  await third.close();
  await t.throwsAsync(Journal.open(folder, { ...identity, limit: 4 }), {
    code: 'INVALID_OPTION',
    message: /limit is 3, not 4/,
  });
  const another = join(emptyFolder(), 'out');
  await (await Journal.open(another, { ...identity, presets: ['a typo'] })).close();
  const corrected = await Journal.open(another, identity);
  await corrected.add('one', 1, 1);
  await corrected.close();
  await t.throwsAsync(Journal.open(another, { ...identity, presets: ['a typo'] }), { code: 'INVALID_OPTION' });
  appendFileSync(path, 'garbage\n');
  await t.throwsAsync(Journal.open(folder, identity), { code: 'CORRUPT_DATA', message: /line 5/ });
});

test('experiment: help names every experiment; a wrong name, number or count of models is wrong usage', async (t) => {
  const help = await gearKv('experiment', '--help');
  t.is(help.code, 0);
  for (const name of ['cot', 'zero-shot', 'ratio', 'backbones', 'sensitivity', 'weights', 'fine-tuned']) {
    t.true(help.stdout.includes(`  ${name}`), name);
  }
  for (const [args, message] of [
    [['experiment'], /takes <name>/],
    [['experiment', 'none'], /no experiment 'none'; expected one of cot/],
    [['experiment', 'ratio', '--model', 'a.gguf', '--model', 'b.gguf'], /takes one model; 2 given/],
  ] as const) {
    const { code, stderr, stdout } = await gearKv(...args);
    t.is(code, 2, stderr);
    t.regex(stderr, message);
    t.is(stdout, '');
  }
});
