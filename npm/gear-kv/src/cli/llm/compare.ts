import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { GearError } from '../../errors.js';
import { readFileBytes } from '../../file.js';
import type { EvalRow } from '../../llm/evaluation.js';
import { GearModel } from '../../llm/model.js';
import type { Preset } from '../../options.js';
import { printResult } from '../files.js';
import { type Command, type Flags, sharedFlags, UsageError } from '../usage.js';
import { type ComparisonRow, comparisonReport } from './compare-report.js';
import { presetList, presetListFlag } from './flags.js';
import type { Answer } from './generate.js';
import { modelFlag, modelPath } from './model-flag.js';

const REFERENCE: Preset = 'float16';
const MAX_TOKENS = '80';

/** `gear-kv compare`. */
export const compareCommand: Command = {
  summary: 'Have a model answer a long prompt on caches of several presets, and compare answers, memory and speed',
  operands: [],
  flags: {
    ...modelFlag,
    preset: { ...presetListFlag.preset, help: 'the presets to compare with float16 (default: gear-4,gear-2)' },
    prompt: {
      type: 'string',
      value: 'file',
      help: 'a text file (default: an article of 950 tokens, and a question)',
    },
    'max-tokens': { type: 'string', value: 'n', help: `the most tokens of an answer (default: ${MAX_TOKENS})` },
    json: sharedFlags.json,
  },
  async run(_, flags) {
    const presets = [...new Set<Preset>([REFERENCE, ...(presetList(flags) ?? (['gear-4', 'gear-2'] as const))])];
    const prompt = await promptText(flags);
    const path = await modelPath(flags);
    const isQuiet = flags['json'] === true;
    const say = (text: string): void => {
      if (!isQuiet) process.stdout.write(text);
    };
    const model = await GearModel.load(path);
    const ids = promptIds(model, prompt);
    say(`${model.info.name ?? path} answers a prompt of ${ids.length} tokens.\n`);
    const answers: Answer[] = [];
    for (const preset of presets) {
      if (isQuiet) process.stderr.write(`answering a prompt of ${ids.length} tokens on ${preset} …\n`);
      say(`\n── ${preset} ──\n`);
      answers.push(await answer(path, preset, prompt, (flags['max-tokens'] as string | undefined) ?? MAX_TOKENS, say));
      say('\n');
    }
    process.stderr.write('comparing the answers token by token …\n');
    const rows = compared(presets, answers, await forced(model, ids, presets, answers));
    model.dispose();
    printResult(flags, rows, `\n${comparisonReport(rows)}`);
  },
};

async function promptText(flags: Flags): Promise<string> {
  const given = flags['prompt'] as string | undefined;
  const bytes = await readFileBytes(given ?? new URL('./fixtures/bread.txt', import.meta.url));
  const text = new TextDecoder().decode(bytes).trim();
  if (text === '') throw new UsageError(`--prompt: ${given} is empty`);
  return text;
}

function promptIds(model: GearModel, prompt: string): number[] {
  const chat = model.renderChat([{ role: 'user', content: prompt }]);
  return [...model.tokenize(chat, { addBos: false })];
}

/**
 * One answer, in a process of its own: memory that an earlier answer left behind would count for the next. Pieces are shown
 * as they come.
 */
async function answer(
  path: string,
  preset: Preset,
  prompt: string,
  maxTokens: string,
  say: (text: string) => void,
): Promise<Answer> {
  const flags = ['--model', path, '--preset', preset, '--max-tokens', maxTokens, '--events'];
  const command = fileURLToPath(import.meta.url);
  const child = spawn(process.execPath, [command, 'generate', ...flags, '--', '-'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'close');
  child.stdin.on('error', () => {});
  child.stdin.end(prompt);
  let result: Answer | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as { piece?: string; answer?: Answer };
    if (event.piece !== undefined) say(event.piece);
    result = event.answer ?? result;
  }
  await ended;
  if (result === undefined) throw new GearError('INTERNAL', `the answer on ${preset} did not come to its end`);
  return result;
}

/** What each preset would have said at every point of the reference's answer: answers drift apart after one other word. */
async function forced(
  model: GearModel,
  ids: readonly number[],
  presets: readonly Preset[],
  [reference]: readonly Answer[],
): Promise<ReadonlyMap<string, EvalRow>> {
  const others = presets.filter((preset) => preset !== REFERENCE);
  const tokens = reference?.tokens ?? [];
  // The last token has no next one to compare.
  if (others.length === 0 || tokens.length < 2) return new Map();
  const windows = { promptTokens: ids.length, continuationTokens: tokens.length - 1, tokenIds: [[...ids, ...tokens]] };
  const { rows } = await model.evaluate(windows, { presets: others });
  return new Map(rows.map((row) => [row.preset, row]));
}

function compared(
  presets: readonly Preset[],
  answers: readonly Answer[],
  rows: ReadonlyMap<string, EvalRow>,
): ComparisonRow[] {
  const reference = answers[0]?.tokens ?? [];
  return presets.flatMap((preset, index) => {
    const given = answers[index];
    if (given === undefined) return [];
    const { tokens, cache, memory, promptTokens, promptSeconds, decodeSeconds, text } = given;
    const differing = reference.findIndex((token, at) => tokens[at] !== token);
    const row = rows.get(preset);
    return {
      preset,
      answer: text,
      answerTokens: tokens.length,
      sameTokens: differing === -1 ? reference.length : differing,
      top1: row?.top1 ?? 1,
      kl: row?.kl ?? 0,
      cacheTokens: cache.tokens,
      cacheBytes: cache.byteLength,
      cacheShare: cache.byteLength / cache.float16ByteLength,
      modelBytes: memory.model,
      peakBytes: Math.max(0, memory.peak - memory.model),
      prefillTokensPerSecond: promptTokens / promptSeconds,
      decodeTokensPerSecond: tokens.length / decodeSeconds,
    };
  });
}
