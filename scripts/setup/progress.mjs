// What the person in front of the terminal sees while things are installed and built. Everything goes to standard error:
// standard output belongs to the command that set-up prepares.

import { spawn } from 'node:child_process';

const HEARTBEAT_MS = 10_000;
const FAILURE_LINES = 60;

/** Something that cannot go on, with what to do about it; shown without a stack trace. */
export class SetupError extends Error {
  name = 'SetupError';
}

/** Prints one line of progress. */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/** Runs one step of set-up and says how long it took; long ones report that they are alive. */
export async function step(title, work) {
  const started = performance.now();
  const elapsed = () => `${((performance.now() - started) / 1000).toFixed(1)} s`;
  let doing = '';
  say(`· ${title} …`);
  const heartbeat = setInterval(() => say(`  ${title}: ${elapsed()}${doing && ` (${doing})`}`), HEARTBEAT_MS);
  try {
    const result = await work((line) => {
      doing = line.trim().slice(0, 100);
    });
    say(`✓ ${title} (${elapsed()})`);
    return result;
  } catch (error) {
    say(`✗ ${title} (${elapsed()})`);
    throw error;
  } finally {
    clearInterval(heartbeat);
  }
}

/**
 * Runs a command quietly. Each line of output goes to `onLine`; when the command fails, the end of its output is in the error.
 * Resolves with everything it wrote to standard output.
 */
export function run(command, args, { cwd, env, onLine = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd, env: env ?? process.env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let stdout = '';
    const collect = (chunk) => {
      output += chunk;
      const lines = chunk.split('\n').filter((line) => line.trim() !== '');
      if (lines.length > 0) onLine(lines.at(-1));
    };
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      stdout += chunk;
      collect(chunk);
    });
    child.stderr.setEncoding('utf8').on('data', collect);
    child.on('error', (error) => reject(new SetupError(`${command} cannot be run: ${error.message}`, { cause: error })));
    child.on('close', (code, signal) => {
      if (code === 0) return resolve(stdout);
      const shown = output.trimEnd().split('\n').slice(-FAILURE_LINES).join('\n');
      const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      reject(new SetupError(`${[command, ...args].join(' ')} failed with ${how}:\n\n${shown}\n`));
    });
  });
}
