import type { TaskOptions } from './data/tasks.js';
import type { Context } from './experiment.js';

/** How an experiment asks for its tasks. */
export function taskOptions({ limit, seed, data, signal, remark, doing }: Context): TaskOptions {
  return {
    limit,
    seed,
    data,
    signal,
    remark,
    onProgress: ({ from, receivedBytes }) => doing(`${(receivedBytes / 1e6).toFixed(1)} MB of data from ${from}`),
  };
}

/** Units of tasks: one an example. */
export function examplesOf(tasks: readonly { readonly examples: readonly unknown[] }[]): number {
  return tasks.reduce((sum, { examples }) => sum + examples.length, 0);
}
