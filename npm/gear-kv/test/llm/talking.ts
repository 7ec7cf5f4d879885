// The model that the tests talk with: whatever set-up fetched. Without one, what needs it is skipped, and reported as such.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { GearModel } from 'gear-kv/llm';
import { modelFolder } from '../../src/llm/model-file.js';

const file = process.env['GEARKV_MODEL'] || join(modelFolder(), 'SmolLM2-135M-Instruct.Q4_1.gguf');

/** Path of the model, or undefined where there is none. */
export const modelPath = existsSync(file) ? file : undefined;

/** A test that needs the model; one after the other, since each takes all cores. */
export const withModel = modelPath === undefined ? test.skip : test.serial;

let loaded: Promise<GearModel> | undefined;

/** The model, loaded once a file of tests. */
export function model(): Promise<GearModel> {
  loaded ??= GearModel.load(modelPath as string);
  return loaded;
}

/** Enough text for several segments. */
export const story = Array.from(
  { length: 12 },
  (_, day) =>
    `On day ${day + 1} the keeper climbed the ${day * 7 + 50} steps of the lighthouse and wrote down the weather.`,
).join(' ');
