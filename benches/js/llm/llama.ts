import { pathToFileURL } from 'node:url';
import { GearModel } from 'gear-kv/llm';
import { peakBytes, resetPeak, residentBytes } from '../../../npm/gear-kv/src/cli/llm/memory.js';
import { requireFrom } from '../peers.js';
import { type Row, rowOf, type Task } from './rows.js';
import { promptsOf } from './text.js';

/** The part of node-llama-cpp that is used here; it is not a dependency of the package. */
interface LlamaModule {
  getLlama(options: object): Promise<{
    loadModel(options: object): Promise<{
      tokenize(text: string): number[];
      detokenize(ids: number[]): string;
      createContext(options: object): Promise<{ getSequence(): Sequence }>;
    }>;
  }>;
}

interface Sequence {
  evaluateWithoutGeneratingNewTokens(ids: number[]): Promise<void>;
  evaluate(ids: number[], options: object): AsyncIterable<number>;
}

/** Bits of an element of K or V there, the blocks' scales counted. */
const BITS: Record<string, number> = { f16: 16, q8_0: 8.5, q4_0: 4.5 };

/** The same on llama.cpp; sequences go through it in common batches. */
export async function runLlama(task: Task): Promise<Row> {
  const { cache, flashAttention, batch, context, decode, threads } = task;
  const entry = requireFrom(task.peers).resolve('node-llama-cpp');
  const { getLlama } = (await import(pathToFileURL(entry).href)) as LlamaModule;
  const llama = await getLlama({ build: 'never', gpu: false, maxThreads: threads, logLevel: 'disabled' });
  const model = await llama.loadModel({ modelPath: task.model, gpuLayers: 0 });
  const prompts = promptsOf(
    batch,
    context,
    (text) => model.tokenize(text),
    (ids) => model.detokenize(ids),
  ).map((prompt) => model.tokenize(prompt));
  resetPeak();
  const loadedBytes = residentBytes();
  const longest = Math.max(...prompts.map(({ length }) => length));
  const type = cache.toUpperCase();
  const made = await model.createContext({
    // Of each sequence.
    contextSize: longest + decode + 8,
    sequences: batch,
    batchSize: 512,
    threads,
    flashAttention,
    experimentalKvCacheKeyType: type,
    experimentalKvCacheValueType: type,
  });
  const sequences = prompts.map((ids) => ({ ids, sequence: made.getSequence() }));
  const started = performance.now();
  await Promise.all(
    sequences.map(({ ids, sequence }) => sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, -1))),
  );
  const taken = performance.now();
  const counts = await Promise.all(sequences.map(({ ids, sequence }) => generated(sequence, ids.slice(-1), decode)));
  const ended = performance.now();
  const peakBytesOverModel = peakBytes() - loadedBytes;
  const prompt = prompts.reduce((sum, { length }) => sum + length - 1, 0);
  return {
    ...rowOf(task),
    context: longest,
    prefillTokensPerSecond: (prompt / (taken - started)) * 1000,
    decodeTokensPerSecond: (counts.reduce((sum, count) => sum + count, 0) / (ended - taken)) * 1000,
    cacheBytes: (batch * (longest + decode) * (await elementsPerToken(task.model)) * (BITS[cache] ?? Number.NaN)) / 8,
    loadedBytes,
    peakBytesOverModel,
  };
}

async function generated(sequence: Sequence, ids: number[], most: number): Promise<number> {
  let count = 0;
  for await (const _ of sequence.evaluate(ids, { temperature: 0 })) {
    count += 1;
    if (count >= most) break;
  }
  return count;
}

/** K and V of all layers. */
async function elementsPerToken(path: string): Promise<number> {
  using model = await GearModel.load(path);
  const { layers, kvHeads, headDim } = model.info;
  return 2 * layers * kvHeads * headDim;
}
