// Every method and every improvement on a real model: `npm run quality`. A full run rewrites docs/quality.json, .md and .svg;
// `-- --method gear-4,gear-3` measures these rows anew and leaves the others as they are (`gear-*` is a prefix), `-- --method none`
// only writes tables and plot again, `-- --section ablation` measures one section; `-- --quick` reads two of the texts, and like
// `--windows <file>` and `--model <gguf>` changes no document.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { fetchModel } from 'gear-kv/llm';
import { type Configuration, type Section, type SectionName, sections } from './configurations.js';
import { measure, type Task } from './measure.js';
import { plot } from './plot.js';
import { docsFile, type Found, merged, nothing, type Results, readResults, writeResults } from './results.js';
import { withTables } from './tables.js';

/** Rows that are measured together: what is done after so many is kept whatever comes. */
const TOGETHER = 12;
const QUICK_TEXTS = [0, 6];
const SECOND_MODEL_FILE = 'gemma-3-270m-q4_k_m.gguf';

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    windows: { type: 'string' },
    method: { type: 'string' },
    section: { type: 'string' },
    model: { type: 'string' },
    'second-model': { type: 'string' },
  },
});
const fixture = (name: string): string => fileURLToPath(new URL(`../../../fixtures/${name}`, import.meta.url));
const say = (text: string): boolean => process.stderr.write(text);

/** Where the second model is; it is not fetched, as its licence has to be agreed to. */
function secondModel(): string | undefined {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const path = values['second-model'] ?? join(cache, 'gear-kv', 'models', SECOND_MODEL_FILE);
  return existsSync(path) ? path : undefined;
}

/** The rows of a section that `--method` and `--section` name. */
function wanted(section: SectionName): Configuration[] {
  if (values.section !== undefined && values.section !== section) return [];
  const words = values.method?.split(',').map((word) => word.trim());
  const isWanted = (name: string): boolean =>
    words?.some((word) => (word.endsWith('*') ? name.startsWith(word.slice(0, -1)) : name === word)) ?? true;
  return sections[section].rows.filter(({ name }) => isWanted(name));
}

async function measured(section: SectionName, task: Omit<Task, 'rows'>, before: Results): Promise<Results> {
  const rows = wanted(section);
  let results = before;
  for (let first = 0; first < rows.length; first += TOGETHER) {
    const some = rows.slice(first, first + TOGETHER);
    say(`${section}: ${some.map(({ name }) => name).join(', ')}\n`);
    const { baseline, rows: found } = await measure({ ...task, rows: some }, (done, total) => {
      say(`\r  ${done} of ${total} texts${done === total ? '\n' : ''}`);
    });
    found.forEach(show);
    results = merged(results, section, baseline, found);
    if (keep) await write(results);
  }
  return results;
}

function show({ name, bitsPerElement, kl, top1, perplexity }: Found): void {
  say(
    `  ${name}: ${bitsPerElement.toFixed(3)} bits, KL ${kl.toPrecision(4)}, ${top1.toFixed(4)}, ${perplexity.toFixed(3)}\n`,
  );
}

async function write(results: Results): Promise<void> {
  writeResults(results);
  const document = docsFile('quality.md');
  writeFileSync(document, withTables(readFileSync(document, 'utf8'), results));
  writeFileSync(docsFile('quality.svg'), await plot(results));
}

const keep = !values.quick && values.windows === undefined && values.model === undefined;
const names = Object.keys(sections) as SectionName[];
if (values.method !== 'none' && names.every((name) => wanted(name).length === 0)) {
  const known = names.flatMap((name) => sections[name].rows.map((row) => row.name));
  throw new Error(`--method is ${values.method}; there are ${[...new Set(known)].join(', ')}`);
}
const windows = values.windows ?? fixture('windows.json');
const first = values.model ?? (await fetchModel());
const second = secondModel();
let results = keep ? readResults() : nothing;
for (const name of names) {
  const { model, texts }: Section = sections[name];
  const chosen = values.quick ? { texts: QUICK_TEXTS } : texts === undefined || values.windows ? {} : { texts };
  const task = { windows, ...chosen };
  if (model === 'SmolLM2-135M') {
    results = await measured(name, { ...task, model: first, fixture: fixture('kv_smollm2_135m.safetensors') }, results);
  } else if (second !== undefined) {
    results = await measured(name, { ...task, model: second, windowsModel: first }, results);
  } else {
    say(`${model} is not here (--second-model names its file): its rows stay as they are\n`);
  }
}
if (keep) await write(results);
if (values.json) console.log(JSON.stringify(results, null, 2));
