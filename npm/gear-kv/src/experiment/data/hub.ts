// Data sets on the web, each file at one commit and with its hash.

import { GearError } from '../../errors.js';
import { BBH_FILES } from './bbh-files.js';
import { type HubOptions, hubSource, hubText } from './hub-file.js';
import { mmluQuestions } from './mmlu.js';
import { MMLU_FILES } from './mmlu-files.js';
import type { Exemplar } from './task.js';

const GSM8K = {
  repository: 'openai/grade-school-math',
  commit: '3101c7d5072418e28b9008a6636bde82a006892c',
  path: 'grade_school_math/data/test.jsonl',
  sha256: '3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14',
};
const BBH = { repository: 'suzgunmirac/BIG-Bench-Hard', commit: '9ee07bd481feebf959a6b59d61ea57bdcf30964d' };
/** Its authors give it as an archive on a server of theirs; this is a copy of it: all 14,042 questions of the test set. */
const MMLU = { repository: 'HaeChan0305/MLILAB-FedLLM', commit: 'd92730e8bacd7b3a61e551e015e40588e10234b4' };

/** What reports say of a data set's origin. */
export const HUB_SOURCES = {
  gsm8k: { licence: 'MIT', source: hubSource(GSM8K) },
  bbh: { licence: 'MIT', source: hubSource(BBH) },
  mmlu: { licence: 'MIT', source: `hendrycks/test, as in ${hubSource(MMLU)}` },
} as const;

/** Questions of one group of a data set: of a task of BigBench Hard, of a subject of MMLU. @throws GearError as {@link hubText}. */
export function hubQuestions(
  name: keyof typeof HUB_SOURCES,
  group: string,
  options: HubOptions,
): Promise<readonly Exemplar[]> {
  if (name === 'gsm8k') return gsm8k(options);
  return name === 'bbh' ? bbh(group, options) : mmlu(group, options);
}

/** The test questions of GSM8k: 1,319. */
async function gsm8k(options: HubOptions): Promise<Exemplar[]> {
  const text = await hubText(GSM8K, options);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Exemplar);
}

async function bbh(task: string, options: HubOptions): Promise<Exemplar[]> {
  const sha256 = hashOf(BBH_FILES, task, 'BigBench Hard has no task');
  const text = await hubText({ ...BBH, path: `bbh/${task}.json`, sha256 }, options);
  const { examples } = JSON.parse(text) as { examples: { input: string; target: string }[] };
  return examples.map(({ input, target }) => ({ question: input, answer: target }));
}

async function mmlu(subject: string, options: HubOptions): Promise<Exemplar[]> {
  const sha256 = hashOf(MMLU_FILES, subject, 'MMLU has no subject');
  const path = `data/mmlu/test/${subject}_test.csv`;
  return mmluQuestions(await hubText({ ...MMLU, path, sha256 }, options), path);
}

function hashOf(files: Readonly<Record<string, string>>, name: string, otherwise: string): string {
  const sha256 = files[name];
  if (sha256 === undefined) throw new GearError('INVALID_OPTION', `${otherwise} ${name}`);
  return sha256;
}
