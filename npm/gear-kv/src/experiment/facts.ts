// Facts of a machine and of models, for reports.

import { stat } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { basename } from 'node:path';
import { engine } from '../llm/engine.js';
import { GearModel } from '../llm/model.js';
import { weightTypesText } from '../llm/weight-types.js';
import { sha256Of } from './data/files.js';
import type { Subject } from './experiment.js';
import type { Findings } from './report/findings.js';

/** What computes. */
export function machine(): Findings['machine'] {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? process.arch,
    cores: processors.length,
    memoryBytes: totalmem(),
    simd: engine().simdLevel(),
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
  };
}

/** Loads a model and says what it is. */
export async function subject(path: string, signal?: AbortSignal): Promise<Subject> {
  const model = await GearModel.load(path, signal === undefined ? {} : { signal });
  const { info } = model;
  return {
    // What files say of themselves is often not what anybody calls the model.
    name: basename(path).replace(/\.gguf$/i, ''),
    path,
    bytes: (await stat(path)).size,
    sha256: await sha256Of(path, signal),
    model,
    details: {
      Name: info.name,
      Architecture: info.architecture,
      Parameters: `${(Number(info['parameters']) / 1e6).toFixed(0)} million`,
      Weights: weightTypesText(info['weightTypes'] as Record<string, number>, 0, 0.001),
      Layers: info.layers,
      'Query heads': info.heads,
      'KV heads': info.kvHeads,
      'Channels of a head': info.headDim,
      Context: `${info.contextLength} tokens`,
      'Chat template': info['hasChatTemplate'] === true ? 'yes' : 'no',
    },
  };
}
