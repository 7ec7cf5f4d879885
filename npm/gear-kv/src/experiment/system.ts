// What a compressed cache does for a machine: memory, speed, and how much fits a budget.

import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { GearError } from '../errors.js';
import type { GearModel } from '../llm/model.js';
import type { SessionTimings } from '../llm/session.js';
import { EXEMPLARS_SOURCE, exemplars } from './data/exemplars.js';
import type { Context, Experiment, NamedCache, Outcome, Subject } from './experiment.js';
import { assertFits, bytesLeft } from './memory.js';
import type { Table } from './report/findings.js';
import { cellText } from './report/format.js';

const DEFAULT_CONTEXT = 1024;
const DECODED = 48;
const BATCHES = [1, 2, 4, 8] as const;
/** A step's batch goes through the layers in chunks of this many. */
const MOST_SEQUENCES = 32;
/** Without `--budget`: what the float16 caches of so many sequences take. */
const BUDGET_SEQUENCES = 2;

/** One conversation, in a process of its own. */
interface Alone {
  readonly tokens: number;
  readonly cacheBytes: number;
  readonly peakBytes: number;
  readonly promptSeconds: number;
  readonly tokensPerSecond: number;
  readonly timings: SessionTimings;
}

/** Several at once. */
interface Together {
  readonly batch: number;
  readonly cacheBytes: number;
  readonly tokensPerSecond: number;
}

/** `system`: memory, throughput, what fits, where the time goes. */
export const system: Experiment = {
  name: 'system',
  title: 'Memory and speed',
  summary: 'peak memory, throughput against batch, longest context and largest batch in a budget, where the time goes',
  question: 'What does a compressed cache do for the machine that runs the model?',
  presets: ['gear-4', 'gear-2', 'kivi-4'],
  limit: BATCHES.length,
  run,
};

async function run(context: Context): Promise<Outcome> {
  const [subject] = context.subjects as [Subject];
  const { contextLength } = subject.model.info;
  const tokens = Math.min(context.contextTokens ?? DEFAULT_CONTEXT, contextLength - DECODED);
  if (tokens < 16) throw new GearError('INVALID_OPTION', `--context is ${context.contextTokens}; expected 16 or more`);
  const prompt = await promptOf(context, subject.model, tokens);
  const caches: NamedCache[] = [{ name: 'float16', cache: 'float16' }, ...context.caches];
  const batches = BATCHES.slice(0, context.limit);
  context.expect(caches.length * (batches.length + 2));
  const alone = new Map<string, Alone>();
  const together = new Map<string, Together[]>();
  for (const { name, cache } of caches) {
    const key = `${name}: one conversation in a process of its own`;
    alone.set(name, await context.unit(key, () => oneAlone(context, subject, String(cache), prompt)));
    const one = (alone.get(name) as Alone).cacheBytes;
    const rows: Together[] = [];
    for (const batch of batches) {
      const unit = `${name}: ${batch} at once`;
      const work = (): Promise<Together> => {
        assertFits(unit, batch * one);
        return atOnce(context, subject.model, { name, cache }, prompt, batch);
      };
      rows.push(await context.unit(unit, work));
    }
    together.set(name, rows);
  }
  const exact = alone.get('float16') as Alone;
  const budget = context.budgetBytes ?? BUDGET_SEQUENCES * exact.cacheBytes;
  const left = bytesLeft();
  if (budget > left) {
    context.remark(
      `the budget of ${cellText(budget, 'bytes')} is more than the ${cellText(left, 'bytes')} of memory that were left: what is said of it beyond that is arithmetic`,
    );
  }
  const fitting = new Map<string, Together>();
  for (const { name, cache } of caches) {
    const one = (alone.get(name) as Alone).cacheBytes;
    const fits = Math.floor(budget / one);
    const batch = Math.min(fits, MOST_SEQUENCES, Math.floor(left / one));
    if (batch < 1) {
      context.remark(`not one conversation of ${tokens} tokens fits ${budget} bytes on ${name}`);
      continue;
    }
    if (fits > batch)
      context.remark(`${fits} conversations fit the budget on ${name}; ${batch} were measured, the most at once`);
    const key = `${name}: ${batch} in the budget`;
    fitting.set(name, await context.unit(key, () => atOnce(context, subject.model, { name, cache }, prompt, batch)));
  }
  return outcome({ caches, alone, together, fitting, budget, tokens, contextLength });
}

/** Text of about so many tokens: worked examples, one after the other. */
async function promptOf(context: Context, model: GearModel, tokens: number): Promise<string> {
  const shots = [...(await exemplars({ signal: context.signal })).values()];
  let all = '';
  let ids: Uint32Array = new Uint32Array();
  for (const { exemplars } of shots) {
    all += exemplars.map(({ question, answer }) => `Q: ${question}\nA: ${answer}\n\n`).join('');
    ids = model.tokenize(all);
    if (ids.length >= tokens) break;
  }
  if (ids.length < tokens) {
    throw new GearError('INVALID_OPTION', `there is text of ${ids.length} tokens; give a --context of at most that`);
  }
  context.used({ name: 'worked examples', ...EXEMPLARS_SOURCE, examples: shots.length });
  return model.detokenize(ids.subarray(0, tokens));
}

async function oneAlone(context: Context, { path }: Subject, preset: string, prompt: string): Promise<Alone> {
  // The bundle of the command line.
  const command = fileURLToPath(import.meta.url);
  const args = [
    command,
    'generate',
    '-',
    '--raw',
    '--json',
    '--model',
    path,
    '--preset',
    preset,
    '--max-tokens',
    String(DECODED),
  ];
  const child = spawn(process.execPath, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(context.signal && { signal: context.signal }),
  });
  const ended = new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  // A child that fails at once closes its input; what it says is better than that.
  child.stdin.on('error', () => {});
  child.stdin.end(prompt);
  const [code, stdout, stderr] = await Promise.all([ended, text(child.stdout), text(child.stderr)]);
  context.signal?.throwIfAborted();
  if (code !== 0) {
    const why = stderr.trim().split('\n').at(-1) ?? '';
    throw new GearError(
      'INTERNAL',
      `a conversation on ${preset} in a process of its own ended with ${code ?? 'a signal, as when memory runs out'}: ${why}`,
    );
  }
  const answer = JSON.parse(stdout);
  return {
    tokens: answer.cache.tokens,
    cacheBytes: answer.cache.byteLength,
    peakBytes: answer.memory.peak - answer.memory.model,
    promptSeconds: answer.promptSeconds,
    // The first token comes with the prompt.
    tokensPerSecond: Math.max(answer.tokens.length - 1, 1) / answer.decodeSeconds,
    timings: answer.timings,
  };
}

async function atOnce(
  { signal }: Context,
  model: GearModel,
  { cache }: NamedCache,
  prompt: string,
  batch: number,
): Promise<Together> {
  const generation = model.generateBatch(
    Array.from({ length: batch }, () => prompt),
    {
      cache,
      maxTokens: DECODED,
      ...(signal && { signal }),
    },
  );
  await generation.texts();
  const results = generation.results ?? [];
  const decoded = results.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
  return {
    batch,
    cacheBytes: generation.stats().byteLength,
    tokensPerSecond: decoded / Math.max(...results.map(({ decodeSeconds }) => decodeSeconds)),
  };
}

interface Measured {
  readonly caches: readonly NamedCache[];
  readonly alone: ReadonlyMap<string, Alone>;
  readonly together: ReadonlyMap<string, readonly Together[]>;
  readonly fitting: ReadonlyMap<string, Together>;
  readonly budget: number;
  readonly tokens: number;
  readonly contextLength: number;
}

function outcome(measured: Measured): Outcome {
  const { together } = measured;
  const steps = [...together].flatMap(([cache, rows]) =>
    rows.map((row) => ({ cache, ...row, batch: String(row.batch) })),
  );
  return {
    summary: sentences(measured),
    tables: [memoryTable(measured), budgetTable(measured), splitTable(measured), batchTable(measured)],
    plots: [
      {
        id: 'throughput',
        title: 'Throughput against batch',
        kind: 'line',
        x: { key: 'batch', title: 'conversations at once', scale: 'ordinal' },
        y: { key: 'tokensPerSecond', title: 'tokens a second' },
        series: 'cache',
        rows: steps,
      },
      {
        id: 'memory',
        title: 'Peak memory of one conversation, over that of the model',
        kind: 'bars',
        x: { key: 'cache', title: 'cache' },
        y: { key: 'peakBytes', title: 'peak memory', format: 'bytes' },
        rows: [...measured.alone].map(([cache, { peakBytes }]) => ({ cache, peakBytes })),
      },
    ],
  };
}

function sentences({ caches, alone, fitting, tokens }: Measured): string[] {
  const exact = alone.get('float16') as Alone;
  const most = fitting.get('float16');
  return caches
    .filter(({ name }) => name !== 'float16')
    .map(({ name }) => {
      const one = alone.get(name) as Alone;
      const many = fitting.get(name);
      const smaller = (exact.cacheBytes / one.cacheBytes).toFixed(2);
      const peak = (exact.peakBytes / one.peakBytes).toFixed(2);
      const faster =
        many && most
          ? ` In the same budget it gives ${(many.tokensPerSecond / most.tokensPerSecond).toFixed(2)} times the throughput (${many.batch} conversations, not ${most.batch}).`
          : '';
      return `${name}: of ${tokens} tokens, a cache ${smaller} times smaller than float16's and a peak of memory ${peak} times smaller.${faster}`;
    });
}

function memoryTable({ alone }: Measured): Table {
  return {
    id: 'memory',
    title: 'One conversation',
    note: 'In a process of its own. Peak memory is resident memory at its most, less what the process takes with the model loaded; the prompt’s working memory is part of it.',
    columns: [
      { key: 'cache', heading: 'cache' },
      { key: 'tokens', heading: 'tokens' },
      { key: 'cacheBytes', heading: 'cache takes', format: 'bytes', better: 'low' },
      { key: 'peakBytes', heading: 'peak memory', format: 'bytes', better: 'low' },
      { key: 'promptSeconds', heading: 'prompt', format: 'seconds', better: 'low' },
      { key: 'tokensPerSecond', heading: 'tokens a second', format: { digits: 1 }, better: 'high' },
    ],
    rows: [...alone].map(([cache, { tokens, cacheBytes, peakBytes, promptSeconds, tokensPerSecond }]) => ({
      cache,
      tokens,
      cacheBytes,
      peakBytes,
      promptSeconds,
      tokensPerSecond,
    })),
  };
}

function budgetTable({ alone, fitting, budget, tokens, contextLength }: Measured): Table {
  return {
    id: 'budget',
    title: `Caches of ${(budget / 1e6).toFixed(1)} MB in all`,
    note: `The largest batch of conversations of ${tokens} tokens, as measured; the longest context of one conversation by the bytes that a token takes at that length, which the model, made for ${contextLength} tokens, may not be able to use.`,
    columns: [
      { key: 'cache', heading: 'cache' },
      { key: 'batch', heading: 'largest batch', better: 'high' },
      { key: 'tokensPerSecond', heading: 'tokens a second', format: { digits: 1 }, better: 'high' },
      { key: 'longest', heading: 'longest context', better: 'high' },
    ],
    rows: [...alone].map(([cache, one]) => ({
      cache,
      batch: fitting.get(cache)?.batch ?? 0,
      tokensPerSecond: fitting.get(cache)?.tokensPerSecond ?? null,
      longest: Math.floor(budget / (one.cacheBytes / one.tokens)),
    })),
  };
}

function splitTable({ alone }: Measured): Table {
  const share = (timings: SessionTimings, part: keyof SessionTimings): number =>
    timings[part] / (timings.attention + timings.compression + timings.matmul + timings.other);
  return {
    id: 'time',
    title: 'Where the time of one conversation goes, prompt and answer together',
    columns: [
      { key: 'cache', heading: 'cache' },
      { key: 'matmul', heading: 'products with weights', format: 'percent' },
      { key: 'attention', heading: 'attention', format: 'percent' },
      { key: 'compression', heading: 'compression', format: 'percent' },
      { key: 'other', heading: 'the rest', format: 'percent' },
    ],
    rows: [...alone].map(([cache, { timings }]) => ({
      cache,
      matmul: share(timings, 'matmul'),
      attention: share(timings, 'attention'),
      compression: share(timings, 'compression'),
      other: share(timings, 'other'),
    })),
  };
}

function batchTable({ together, tokens }: Measured): Table {
  return {
    id: 'batches',
    title: `Several conversations of ${tokens} tokens at once`,
    columns: [
      { key: 'cache', heading: 'cache' },
      { key: 'batch', heading: 'at once' },
      { key: 'cacheBytes', heading: 'caches take', format: 'bytes' },
      { key: 'tokensPerSecond', heading: 'tokens a second', format: { digits: 1 } },
    ],
    rows: [...together].flatMap(([cache, rows]) => rows.map((row) => ({ cache, ...row }))),
  };
}
