import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Row, resident, type Task } from './rows.js';
import { promptOf } from './text.js';

/** The part of node-llama-cpp that is used here; it is not a dependency of the package. */
interface LlamaModule {
  getLlama(options: object): Promise<{
    loadModel(options: object): Promise<{
      tokenize(text: string): number[];
      detokenize(ids: number[]): string;
      createContext(options: object): Promise<{
        getSequence(): {
          evaluateWithoutGeneratingNewTokens(ids: number[]): Promise<void>;
          evaluate(ids: number[], options: object): AsyncIterable<number>;
        };
      }>;
    }>;
  }>;
}

/** The same on llama.cpp. */
export async function runLlama(task: Task): Promise<Row> {
  const { cache, flashAttention, context, decode, threads } = task;
  const entry = createRequire(join(task.peers, 'package.json')).resolve('node-llama-cpp');
  const { getLlama } = (await import(pathToFileURL(entry).href)) as LlamaModule;
  const llama = await getLlama({ build: 'never', gpu: false, maxThreads: threads, logLevel: 'disabled' });
  const model = await llama.loadModel({ modelPath: task.model, gpuLayers: 0 });
  const prompt = promptOf(
    context,
    (text) => model.tokenize(text),
    (ids) => model.detokenize(ids),
  );
  const ids = model.tokenize(prompt);
  const loaded = resident().now;
  const type = cache.toUpperCase();
  const made = await model.createContext({
    contextSize: context + decode + 64,
    batchSize: 512,
    threads,
    flashAttention,
    experimentalKvCacheKeyType: type,
    experimentalKvCacheValueType: type,
  });
  const sequence = made.getSequence();
  const started = performance.now();
  await sequence.evaluateWithoutGeneratingNewTokens(ids.slice(0, -1));
  const taken = performance.now();
  let tokens = 0;
  let first = 0;
  for await (const _ of sequence.evaluate(ids.slice(-1), { temperature: 0 })) {
    if (first === 0) first = performance.now();
    else tokens += 1;
    if (tokens + 1 >= decode) break;
  }
  const ended = performance.now();
  return {
    engine: 'llama.cpp',
    cache,
    flashAttention,
    context: ids.length,
    prefillTokensPerSecond: ((ids.length - 1) / (taken - started)) * 1000,
    decodeTokensPerSecond: (tokens / (ended - first)) * 1000,
    peakBytesOverModel: resident().peak - loaded,
  };
}
