// What the person in front of the terminal sees while things are installed and built. Everything goes to standard error:
// standard output belongs to the command that set-up prepares.

import { runChild } from './child.mjs';

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
      doing = line.trim().slice(0, 100) || doing;
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
export async function run(command, args, options) {
  const { code, signal, stdout, output } = await runChild(command, args, options).catch((cause) => {
    throw new SetupError(`${command} cannot be run: ${cause.message}`, { cause });
  });
  if (code === 0) return stdout;
  const shown = output.trimEnd().split('\n').slice(-FAILURE_LINES).join('\n');
  const how = signal === null ? `exit code ${code}` : `signal ${signal}`;
  throw new SetupError(`${[command, ...args].join(' ')} failed with ${how}:\n\n${shown}\n`);
}
