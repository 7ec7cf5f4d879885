import { nativeBackend } from '../backend/native.js';
import { useBackends } from '../backend/selection.js';
import { startWasm, wasmBackend } from '../backend/wasm.js';
import { compressCommand } from './compress.js';
import { decompressCommand } from './decompress.js';
import { demoCommand } from './demo.js';
import { inspectCommand } from './inspect.js';
import { chatCommand } from './llm/chat.js';
import { compareCommand } from './llm/compare.js';
import { evalCommand } from './llm/eval.js';
import { experimentCommand } from './llm/experiment.js';
import { fetchCommand } from './llm/fetch.js';
import { generateCommand } from './llm/generate.js';
import { perplexityCommand } from './llm/perplexity.js';
import { requantizeCommand } from './llm/requantize.js';
import { tuneCommand } from './llm/tune.js';
import { type Command, failureText, runCommand, UsageError } from './usage.js';

// Put in by the bundler.
declare const GEARKV_VERSION: string;

useBackends({ native: { load: nativeBackend }, wasm: { load: wasmBackend, start: startWasm } }, ['native', 'wasm']);

const commands: Readonly<Record<string, Command>> = {
  compress: compressCommand,
  decompress: decompressCommand,
  inspect: inspectCommand,
  demo: demoCommand,
  chat: chatCommand,
  generate: generateCommand,
  perplexity: perplexityCommand,
  eval: evalCommand,
  tune: tuneCommand,
  compare: compareCommand,
  experiment: experimentCommand,
  requantize: requantizeCommand,
  fetch: fetchCommand,
};

const OK = 0;
const FAILED = 1;
const WRONG_USAGE = 2;

function help(): string {
  const lines = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(11)} ${summary}`);
  return (
    'Compresses the key-value cache of a language model (GEAR, arXiv 2403.05527), and runs models on it.\n\n' +
    `Usage: gear-kv <command> [options]\n\n${lines.join('\n')}\n\n` +
    "'gear-kv <command> --help' shows a command's options; 'gear-kv --version' the version.\n" +
    'Exit codes: 0 done, 1 failed, 2 wrong usage.\n'
  );
}

async function main(args: string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    (name === undefined ? process.stderr : process.stdout).write(help());
    return name === undefined ? WRONG_USAGE : OK;
  }
  if (name === '--version' || name === '-v') {
    process.stdout.write(`${GEARKV_VERSION}\n`);
    return OK;
  }
  try {
    const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
    if (command === undefined) {
      throw new UsageError(`there is no command '${name}'; expected ${Object.keys(commands).join(', ')}`);
    }
    await runCommand(name, command, rest);
    return OK;
  } catch (error) {
    process.stderr.write(`gear-kv: ${failureText(error)}\n`);
    if (!(error instanceof UsageError)) return FAILED;
    process.stderr.write(`Try 'gear-kv ${Object.hasOwn(commands, name) ? `${name} ` : ''}--help'.\n`);
    return WRONG_USAGE;
  }
}

// `head` and its like close the pipe early; that is not a failure worth a stack trace.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(OK);
  throw error;
});

// Not process.exit: what is still on its way to a pipe would be cut off.
process.exitCode = await main(process.argv.slice(2));
