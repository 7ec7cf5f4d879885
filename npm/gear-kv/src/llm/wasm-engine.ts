import instantiate, * as glue from '../../dist/wasm-llm/gearkv_wasm_llm.js';
import { turn } from '../abort.js';
import type { CancelHandle } from '../backend/binding.js';
import { explainTraps } from '../backend/failure.js';
import type { InitSource } from '../backend/selection.js';
import { compiled, type InitInput } from '../backend/wasm-input.js';
import { GearError } from '../errors.js';
import type { BatchHandle, Engine, ModelHandle, ProgressHandle, SessionHandle } from './binding.js';
import { takeModel } from './model-file.web.js';

let started: Engine | undefined;
let starting: Promise<void> | undefined;

/** The engine, once {@link startEngine} has started it. */
export function startedEngine(): Engine {
  if (started !== undefined) return started;
  throw new GearError(
    'BACKEND_UNAVAILABLE',
    "the engine is not loaded yet: await init() first (import init from 'gear-kv/llm'; await init();)",
  );
}

/**
 * Starts the engine, once. Call it in a worker: whatever the engine computes, it computes on the thread that asks.
 *
 * @param input - Where the module is: a URL, a `Response` (or a promise of one), its bytes, or a compiled
 * `WebAssembly.Module`. Default: the file that ships beside this one.
 * @throws GearError `BACKEND_UNAVAILABLE`, `INVALID_OPTION`.
 */
export function startEngine(input?: InitSource): Promise<void> {
  if (started !== undefined) return Promise.resolve();
  starting ??= start(input).finally(() => {
    starting = undefined;
  });
  return starting;
}

async function start(input: InitSource | undefined): Promise<void> {
  const module = await compiled((await input) ?? packaged());
  const names = new Set(WebAssembly.Module.exports(module).map(({ name }) => name));
  if (!names.has('readPrompt')) {
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      "the WebAssembly module given to init() is not the engine's; the file is gear-kv/gearkv-llm.wasm",
    );
  }
  try {
    await instantiate({ module_or_path: module });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new GearError(
      'BACKEND_UNAVAILABLE',
      `the engine does not start: ${reason}. It needs WebAssembly with SIMD (every browser since 2023), and the file must ` +
        "be this very version's",
      { cause },
    );
  }
  explainTraps(() => glue.lastPanic());
  started = engine;
}

function packaged(): InitInput {
  try {
    // Bundlers recognise this very expression and copy the file.
    return new URL('./wasm-llm/gearkv_wasm_llm_bg.wasm', import.meta.url);
  } catch (cause) {
    // CommonJS has no import.meta.
    const message =
      'it is not known here where the engine lies; pass its URL to init() (the file is gear-kv/gearkv-llm.wasm)';
    throw new GearError('BACKEND_UNAVAILABLE', message, { cause });
  }
}

class Cancel implements CancelHandle {
  raised = false;

  cancel(): void {
    this.raised = true;
  }
}

class Progress implements ProgressHandle {
  #done = 0;
  #total = 0;

  done(): number {
    return this.#done;
  }

  total(): number {
    return this.#total;
  }

  tell(done: number, total: number): void {
    this.#done = done;
    this.#total = total;
  }
}

/** Computes after the event loop has turned, so that messages and a cancellation get through between two steps. */
async function later<Result>(cancel: CancelHandle | undefined, compute: () => Result): Promise<Result> {
  await turn(undefined);
  if (cancel !== undefined && raised(cancel)) throw stopped();
  return compute();
}

function raised(cancel: CancelHandle): boolean {
  return (cancel as Cancel).raised;
}

/** Short enough that a page's messages, and its wish to stop, are heard at once; long enough to lose nothing by it. */
const SLICE_MS = 30;

/** Computes in slices of time between which the event loop turns. `slice` gives what is done and all there is. */
async function sliced(
  cancel: CancelHandle,
  progress: ProgressHandle,
  slice: (milliseconds: number) => ArrayLike<number>,
  abandon: () => void,
): Promise<void> {
  for (;;) {
    await turn(undefined);
    if (raised(cancel)) {
      abandon();
      throw stopped();
    }
    const { 0: done = 0, 1: total = 0 } = slice(SLICE_MS);
    (progress as Progress).tell(done, total);
    if (done === total) return;
  }
}

/** What a measurement that is done in slices has found. */
async function measured(
  cancel: CancelHandle,
  progress: ProgressHandle,
  begin: () => glue.Perplexity | glue.Evaluation | glue.LayerTuning,
): Promise<string> {
  const measurement = await later(cancel, begin);
  try {
    await sliced(
      cancel,
      progress,
      (milliseconds) => measurement.advance(milliseconds),
      () => {},
    );
    return measurement.found();
  } finally {
    measurement.free();
  }
}

function stopped(): GearError {
  return new GearError('ABORTED', "stopped at the caller's request");
}

// What the glue's classes are to the facade, and back.
const model = (handle: ModelHandle) => handle as unknown as glue.Model;
const session = (handle: SessionHandle) => handle as unknown as glue.Session;
const batch = (handle: BatchHandle) => handle as unknown as glue.Batch;

const engine: Engine = {
  version: glue.version,
  simdLevel: glue.simdLevel,
  Cancel,
  Progress,
  Answer: glue.Answer,
  Model: {
    loadTask: async (url) => {
      const bytes = await takeModel(url);
      return later(undefined, () => glue.Model.fromBytes(bytes));
    },
    fromBytesTask: (bytes) => later(undefined, () => glue.Model.fromBytes(bytes)),
  },
  prefillTask: async (handle, ids, cancel, progress) => {
    const reading = session(handle);
    await later(cancel, () => glue.beginPrompt(reading, ids));
    await sliced(
      cancel,
      progress,
      (milliseconds) => glue.readPrompt(reading, milliseconds),
      () => glue.abandonPrompt(reading),
    );
  },
  nextTask: (handle, answer, cancel) => later(cancel, () => glue.next(session(handle), answer as glue.Answer)),
  recompressTask: async (handle, key, value, cancel) => {
    const recompression = await later(cancel, () => new glue.Recompression(session(handle), key, value));
    await sliced(
      cancel,
      new Progress(),
      (milliseconds) => recompression.advance(milliseconds),
      () => recompression.free(),
    );
    return recompression.finish() as unknown as SessionHandle;
  },
  readBatchTask: (handle, cancel, progress) =>
    sliced(
      cancel,
      progress,
      (milliseconds) => batch(handle).read(milliseconds),
      () => batch(handle).abandon(),
    ),
  nextBatchTask: (handle, cancel) => later(cancel, () => batch(handle).next()),
  perplexityTask: (handle, ids, key, value, cancel) =>
    measured(cancel, new Progress(), () => new glue.Perplexity(model(handle), ids, key, value)),
  tuneTask: (handle, windows, key, value, cancel, progress) =>
    measured(cancel, progress, () => new glue.LayerTuning(model(handle), windows, key, value)),
  evalTask: (handle, windows, presets, cancel, progress) =>
    measured(cancel, progress, () => new glue.Evaluation(model(handle), windows, presets)),
};
