import { fetchModel } from '../../llm/model-file.js';
import type { Flag, Flags } from '../usage.js';
import { DownloadBar } from './download-bar.js';

/** The flag of every command that runs a model. */
export const modelFlag = {
  model: {
    type: 'string',
    value: 'gguf',
    help: 'path or URL of a GGUF file (default: GEARKV_MODEL, else SmolLM2-135M-Instruct, downloaded once)',
  },
} as const satisfies Record<string, Flag>;

/** The path of the model that the flags name; what has to be downloaded for it shows on standard error. */
export function modelPath(flags: Flags): Promise<string> {
  return modelFile(flags['model'] as string | undefined);
}

/** The path of a model, as {@link modelPath}. */
export async function modelFile(source: string | undefined, signal?: AbortSignal): Promise<string> {
  const bar = new DownloadBar();
  try {
    return await fetchModel(source, {
      ...(signal && { signal }),
      onProgress: bar.update,
      onMessage: (message) => {
        bar.end();
        process.stderr.write(`${message}\n`);
      },
    });
  } finally {
    bar.end();
  }
}
