// Every experiment by its name.

import { GearError } from '../errors.js';
import { backbones } from './backbones.js';
import { cot, zeroShot } from './cot.js';
import { dropping } from './dropping.js';
import { error } from './error.js';
import type { Experiment } from './experiment.js';
import { fineTuned, weights } from './models.js';
import { ratio } from './ratio.js';
import { sensitivity } from './sensitivity.js';
import { system } from './system.js';

const all: readonly Experiment[] = [
  cot,
  zeroShot,
  ratio,
  dropping,
  backbones,
  sensitivity,
  weights,
  fineTuned,
  error,
  system,
];

/** The experiments, in the order of the paper. */
export const experiments: Readonly<Record<string, Experiment>> = Object.fromEntries(
  all.map((experiment) => [experiment.name, experiment]),
);

/** The experiment of a name. @throws GearError `INVALID_OPTION`. */
export function experimentOf(name: string): Experiment {
  const found = Object.hasOwn(experiments, name) ? experiments[name] : undefined;
  if (found !== undefined) return found;
  const names = Object.keys(experiments).join(', ');
  throw new GearError('INVALID_OPTION', `there is no experiment '${name}'; expected one of ${names}`);
}
