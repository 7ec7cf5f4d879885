// Data sets on the web, each file at one commit and with its hash.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GearError } from '../../errors.js';
import { type DownloadOptions, download } from '../../llm/download.js';
import { BBH_FILES } from './bbh-files.js';
import { dataFolder, hasHash } from './files.js';
import type { Exemplar } from './task.js';

const GSM8K = {
  repository: 'openai/grade-school-math',
  commit: '3101c7d5072418e28b9008a6636bde82a006892c',
  path: 'grade_school_math/data/test.jsonl',
  sha256: '3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14',
};
const BBH = { repository: 'suzgunmirac/BIG-Bench-Hard', commit: '9ee07bd481feebf959a6b59d61ea57bdcf30964d' };

interface HubFile {
  readonly repository: string;
  readonly commit: string;
  readonly path: string;
  readonly sha256: string;
}

/** What reports say of a file's origin. */
export const HUB_SOURCES = {
  gsm8k: { licence: 'MIT', source: `github.com/${GSM8K.repository} at ${GSM8K.commit.slice(0, 7)}` },
  bbh: { licence: 'MIT', source: `github.com/${BBH.repository} at ${BBH.commit.slice(0, 7)}` },
} as const;

/** The test questions of GSM8k: 1,319. @throws GearError `IO_FAILED` where they are neither here nor to be had. */
export async function gsm8kQuestions(options: DownloadOptions): Promise<Exemplar[]> {
  const text = await hubText(GSM8K, options);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Exemplar);
}

/** The questions of a BigBench Hard task. @throws GearError as {@link gsm8kQuestions}. */
export async function bbhQuestions(task: string, options: DownloadOptions): Promise<Exemplar[]> {
  const sha256 = BBH_FILES[task];
  if (sha256 === undefined) throw new GearError('INVALID_OPTION', `BigBench Hard has no task ${task}`);
  const text = await hubText({ ...BBH, path: `bbh/${task}.json`, sha256 }, options);
  const { examples } = JSON.parse(text) as { examples: { input: string; target: string }[] };
  return examples.map(({ input, target }) => ({ question: input, answer: target }));
}

async function hubText({ repository, commit, path, sha256 }: HubFile, options: DownloadOptions): Promise<string> {
  const file = join(await dataFolder(), `${sha256.slice(0, 12)}-${path.split('/').at(-1)}`);
  if (!(await hasHash(file, sha256))) {
    await download(new URL(`https://raw.githubusercontent.com/${repository}/${commit}/${path}`), file, sha256, options);
  }
  return readFile(file, 'utf8');
}
