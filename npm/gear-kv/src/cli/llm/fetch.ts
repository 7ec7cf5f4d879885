import { printResult } from '../files.js';
import { type Command, sharedFlags } from '../usage.js';
import { modelFlag, modelPath } from './model-flag.js';

/** `gear-kv fetch`. */
export const fetchCommand: Command = {
  summary: 'Download a model where it is not here yet, and print the path of its file',
  operands: [],
  flags: { ...modelFlag, json: sharedFlags.json },
  async run(_, flags) {
    const path = await modelPath(flags);
    printResult(flags, { path }, `${path}\n`);
  },
};
