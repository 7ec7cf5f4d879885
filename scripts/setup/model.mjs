// The model that the tests and `npm start` let talk: found where it is, else downloaded by the command that ships.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { DIST } from './places.mjs';
import { say } from './progress.mjs';

/** Path of the model's file, or undefined where it can be reached nowhere; says why. Needs the built package. */
export function fetchModel() {
  return new Promise((resolve, reject) => {
    const command = [join(DIST, 'cli.js'), 'fetch'];
    // Its progress bar is for whoever sits in front of this terminal.
    const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] });
    let path = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      path += text;
    });
    child.on('error', reject).on('close', (code) => resolve(code === 0 ? path.trim() : undefined));
  });
}

/** Fetches the model for the tests. Without one they still run, all but those that need it. */
export async function prepareModel() {
  if ((await fetchModel()) === undefined) say('! no model: the tests that need one will be skipped');
}
