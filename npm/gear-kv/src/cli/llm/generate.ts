import { text } from 'node:stream/consumers';
import type { GenerateResult } from '../../llm/generation.js';
import { GearModel } from '../../llm/model.js';
import type { SessionStats, SessionTimings } from '../../llm/session.js';
import type { Message } from '../../llm/settings.js';
import type { Command, Flags } from '../usage.js';
import { cacheChoice, cacheFlags, samplingFlags, samplingOptions } from './flags.js';
import { peakBytes, resetPeak, residentBytes } from './memory.js';
import { modelFlag, modelPath } from './model-flag.js';
import { PromptBar } from './prompt-bar.js';

/** What `gear-kv generate --json` prints. */
export interface Answer extends GenerateResult {
  readonly cache: SessionStats;
  readonly timings: SessionTimings;
  /** Bytes of the process: with the model alone, and at most while it answered. */
  readonly memory: { readonly model: number; readonly peak: number };
}

/** `gear-kv generate`. */
export const generateCommand: Command = {
  summary: 'Answer a prompt on a compressed cache',
  operands: ['prompt'],
  flags: {
    ...modelFlag,
    ...cacheFlags,
    ...samplingFlags,
    system: { type: 'string', value: 'text', help: 'a system message before the prompt' },
    raw: { type: 'boolean', help: 'continue the prompt as it is, without the chat template' },
    json: { type: 'boolean', help: 'print the answer and its figures as JSON, and nothing else, on standard output' },
    events: { type: 'boolean', help: 'print a line of JSON for every piece as it comes, then one of the figures' },
  },
  async run([operand = ''], flags) {
    const prompt = operand === '-' ? await text(process.stdin) : operand;
    const model = await GearModel.load(await modelPath(flags), { cache: await cacheChoice(flags) });
    const session = model.session();
    resetPeak();
    const before = residentBytes();
    const generation = session.generate(input(prompt, flags), {
      ...samplingOptions(flags),
      onPrompt: new PromptBar().onPrompt,
    });
    for await (const piece of generation) {
      if (flags['events'] === true) process.stdout.write(`${JSON.stringify({ piece })}\n`);
      else if (flags['json'] !== true) process.stdout.write(piece);
    }
    const memory = { model: before, peak: peakBytes() };
    const result = generation.result as GenerateResult;
    const answer: Answer = { ...result, cache: session.stats(), timings: session.timings(), memory };
    if (flags['events'] === true) process.stdout.write(`${JSON.stringify({ answer })}\n`);
    else process.stdout.write(flags['json'] === true ? `${JSON.stringify(answer, undefined, 2)}\n` : '\n');
  },
};

function input(prompt: string, flags: Flags): string | Message[] {
  if (flags['raw'] === true) return prompt;
  const { system } = flags as { system?: string };
  const messages = [{ role: 'user', content: prompt }];
  return system === undefined ? messages : [{ role: 'system', content: system }, ...messages];
}
