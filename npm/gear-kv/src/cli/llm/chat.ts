import { createInterface } from 'node:readline';
import type { GenerateResult } from '../../llm/generation.js';
import { GearModel } from '../../llm/model.js';
import type { GearSession } from '../../llm/session.js';
import type { Message } from '../../llm/settings.js';
import { bytesText } from '../table.js';
import type { Command } from '../usage.js';
import { cacheChoice, cacheFlags, samplingFlags, samplingOptions } from './flags.js';
import { modelFlag, modelPath } from './model-flag.js';
import { PromptBar } from './prompt-bar.js';

/** `gear-kv chat`. */
export const chatCommand: Command = {
  summary: 'Talk with a model; its memory of the conversation is a compressed cache',
  operands: [],
  flags: {
    ...modelFlag,
    ...cacheFlags,
    ...samplingFlags,
    system: { type: 'string', value: 'text', help: 'a system message at the beginning' },
    quiet: { type: 'boolean', help: 'no figures after an answer' },
  },
  async run(_, flags) {
    const model = await GearModel.load(await modelPath(flags), { cache: await cacheChoice(flags) });
    const { system } = flags as { system?: string };
    const messages: Message[] = system === undefined ? [] : [{ role: 'system', content: system }];
    const session = model.session();
    const options = samplingOptions(flags);
    const lines = createInterface({ input: process.stdin, output: process.stderr, prompt: '> ' });
    if (process.stdin.isTTY) {
      process.stderr.write(
        `${model.info.name ?? model.info.architecture}. An empty line ends the chat; Ctrl+C stops an answer.\n`,
      );
    }
    let answering: AbortController | undefined;
    lines.on('SIGINT', () => {
      if (answering === undefined) lines.close();
      else answering.abort();
    });
    lines.prompt();
    for await (const line of lines) {
      if (line.trim() === '') break;
      answering = new AbortController();
      const { signal } = answering;
      const asked: Message[] = [...messages, { role: 'user', content: line }];
      let content = '';
      const prompt = new PromptBar();
      try {
        const generation = session.generate(asked, { ...options, signal, onPrompt: prompt.onPrompt });
        for await (const piece of generation) {
          process.stdout.write(piece);
          content += piece;
        }
        process.stdout.write('\n');
        if (flags['quiet'] !== true) process.stderr.write(figures(session, generation.result as GenerateResult));
      } catch (error) {
        prompt.end();
        if (!signal.aborted) throw error;
        process.stdout.write('\n');
      }
      messages.splice(0, messages.length, ...asked, { role: 'assistant', content });
      answering = undefined;
      lines.prompt();
    }
    lines.close();
    session.dispose();
    model.dispose();
  },
};

function figures(session: GearSession, { tokens, decodeSeconds }: GenerateResult): string {
  const { tokens: held, byteLength, float16ByteLength } = session.stats();
  const speed = decodeSeconds > 0 ? `, ${(tokens.length / decodeSeconds).toFixed(1)} tokens/s` : '';
  return `[${held} tokens in ${bytesText(byteLength)}, ${bytesText(float16ByteLength)} as float16${speed}]\n`;
}
