// The same tests on both engines: the native one, and the one for browsers, whose WebAssembly Node runs just as well.
import { readFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import test from 'ava';
import type * as llm from 'gear-kv/llm';
import { model, modelPath } from './talking.js';

const dist = new URL('../../dist/', import.meta.url);

let browserModel: Promise<llm.GearModel> | undefined;

async function loadBrowserModel(): Promise<llm.GearModel> {
  const { default: init, GearModel } = (await import(new URL('llm.web.js', dist).href)) as {
    default: (module: Uint8Array) => Promise<void>;
    GearModel: typeof llm.GearModel;
  };
  await init(readFileSync(new URL('wasm-llm/gearkv_wasm_llm_bg.wasm', dist)));
  return GearModel.load(readFileSync(modelPath as string));
}

const engines = {
  native: model,
  WebAssembly: () => {
    browserModel ??= loadBrowserModel();
    return browserModel;
  },
};

/** A test on each engine, with a real model; skipped where there is none. */
export function onEachEngine(title: string, run: (t: ExecutionContext, model: llm.GearModel) => Promise<void>): void {
  for (const [name, load] of Object.entries(engines)) {
    const define = modelPath === undefined ? test.skip : test.serial;
    define(`${name}: ${title}`, async (t) => run(t, await load()));
  }
}

/** Checks an error's code by its name alone: each engine's bundle has a class of errors of its own. */
export async function rejectsWith(t: ExecutionContext, code: string, call: () => Promise<unknown>): Promise<Error> {
  const error = (await t.throwsAsync(call)) as Error & { code?: string };
  t.is(error?.name, 'GearError');
  t.is(error?.code, code, error?.message);
  return error;
}

/** As {@link rejectsWith}, for what throws at once. */
export function refusesWith(t: ExecutionContext, code: string, call: () => unknown): void {
  const error = t.throws(call) as Error & { code?: string };
  t.is(error?.name, 'GearError');
  t.is(error?.code, code, error?.message);
}
