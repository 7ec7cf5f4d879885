// Facts of a machine and of models, for reports.

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { basename } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { engine } from '../llm/engine.js';
import { GearModel } from '../llm/model.js';
import type { Subject } from './experiment.js';
import type { Findings } from './report/findings.js';

/** What computes. */
export function machine(threads: number): Findings['machine'] {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? process.arch,
    cores: processors.length,
    memoryBytes: totalmem(),
    simd: engine().simdLevel(),
    threads,
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
  };
}

/** Loads a model and says what it is. */
export async function subject(path: string, signal?: AbortSignal): Promise<Subject> {
  const model = await GearModel.load(path, signal === undefined ? {} : { signal });
  const { info } = model;
  return {
    name: info.name ?? basename(path),
    path,
    bytes: (await stat(path)).size,
    sha256: await hashOf(path, signal),
    model,
    details: {
      architecture: info.architecture,
      layers: info.layers,
      'query heads': info.heads,
      'KV heads': info.kvHeads,
      'channels of a head': info.headDim,
      context: info.contextLength,
      weights: typeof info['weightTypes'] === 'string' ? info['weightTypes'] : null,
    },
  };
}

async function hashOf(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash, signal ? { signal } : {});
  return hash.digest('hex');
}
