import { parseArgs } from 'node:util';
import { GearError } from '../errors.js';
import type { GearOptions } from '../options.js';

/** A mistake on the command line, as opposed to a failure of the work: another exit code, and a hint at --help. */
export class UsageError extends Error {}

/** One flag of a command, for parsing and for `--help`. */
export interface Flag {
  type: 'string' | 'boolean';
  /** What stands for the value in `--help`. */
  value?: string;
  multiple?: boolean;
  help: string;
}

/** A command of `gear-kv`. */
export interface Command {
  summary: string;
  /** What `--help` says more, above the flags. */
  details?: string;
  /** Names of the positional arguments, all required. */
  operands: readonly string[];
  flags: Readonly<Record<string, Flag>>;
  run(operands: readonly string[], flags: Flags): Promise<void>;
}

/** Flags as parsed. */
export type Flags = Readonly<Record<string, string | boolean | string[] | undefined>>;

const help: Flag = { type: 'boolean', help: 'show this text' };

/** Flags that several commands have. */
export const sharedFlags = {
  json: { type: 'boolean', help: 'print JSON, and nothing else, on standard output' },
  backend: { type: 'string', value: 'native|wasm', help: 'what computes (default: native where it loads, else wasm)' },
  force: { type: 'boolean', help: 'overwrite the output file' },
} as const satisfies Record<string, Flag>;

/** Flags of every field of {@link GearOptions} that makes sense on a command line. */
export const optionFlags = {
  preset: { type: 'string', value: 'name', help: 'settings to start from (default: gear-4)' },
  'max-bits-per-element': { type: 'string', value: 'n', help: 'with --preset auto: the size to keep' },
  'max-error': { type: 'string', value: 'n', help: 'with --preset auto: the relative error to keep' },
  bits: { type: 'string', value: 'n', help: 'bits of a code: 2, 3, 4 or 8' },
  'mean-bits': {
    type: 'string',
    value: 'n',
    help: 'bits of a code on the average, dealt out by need; 0: every code alike',
  },
  backbone: { type: 'string', value: 'name', help: 'uniform, kcvt, kivi or rotated' },
  'group-size': { type: 'string', value: 'n', help: 'elements that share a scale' },
  range: { type: 'string', value: 'minmax|mse', help: 'how scales are found: to cover the range, or of least error' },
  'scale-bits': { type: 'string', value: 'n', help: 'bits of a scale and of a zero: 16 or 8' },
  'factor-bits': { type: 'string', value: 'n', help: 'bits of the low-rank factors: 16, 8 or 4' },
  rank: { type: 'string', value: 'n', help: 'rank of the low-rank part' },
  'decode-rank': { type: 'string', value: 'n', help: 'rank of the segments that are appended' },
  'rank-by-need': { type: 'boolean', help: 'heads share their ranks: each goes where it takes most error away' },
  'power-iterations': { type: 'string', value: 'n', help: 'passes of the power iteration' },
  sparsity: { type: 'string', value: 'fraction', help: 'outliers: 0.02 is 2 %' },
  sinks: { type: 'string', value: 'n', help: 'tokens at the start in full precision' },
  'buffer-tokens': { type: 'string', value: 'n', help: 'tokens at the end in full precision' },
  seed: { type: 'string', value: 'n', help: 'seed of the power iteration' },
  threads: { type: 'string', value: 'n', help: 'threads of the native backend (0: one a physical core)' },
  'non-finite': { type: 'string', value: 'reject|replace', help: 'what to do with NaN and infinity' },
} as const satisfies Record<string, Flag>;

const textOptions = new Set(['preset', 'backbone', 'range', 'non-finite']);

/** The compression options among the flags. */
export function gearOptions(flags: Flags): GearOptions {
  const options: Record<string, string | number | boolean> = {};
  for (const flag of Object.keys(optionFlags)) {
    const given = flags[flag];
    if (typeof given !== 'string' && typeof given !== 'boolean') continue;
    const name = flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
    options[name] = typeof given === 'boolean' || textOptions.has(flag) ? given : number(flag, given);
  }
  return options as GearOptions;
}

/** A flag that holds a number, or undefined where it was not given. */
export function numberFlag(flags: Flags, flag: string): number | undefined {
  const given = flags[flag];
  return typeof given === 'string' ? number(flag, given) : undefined;
}

function number(flag: string, given: string): number {
  const value = given.trim() === '' ? Number.NaN : Number(given);
  if (!Number.isFinite(value)) throw new UsageError(`--${flag} is '${given}'; expected a number`);
  return value;
}

/** The `--backend` flag, checked. */
export function backendFlag(flags: Flags): 'native' | 'wasm' | undefined {
  const { backend } = flags as { backend?: string };
  if (backend === undefined || backend === 'native' || backend === 'wasm') return backend;
  throw new UsageError(`--backend is '${backend}'; expected native or wasm`);
}

/** Parses the command's arguments and runs it, or prints its help. */
export async function runCommand(name: string, command: Command, args: string[]): Promise<void> {
  const options = Object.fromEntries(
    Object.entries({ ...command.flags, help }).map(([flag, { type, multiple }]) => [
      flag,
      { type, multiple: multiple ?? false, ...(flag === 'help' && { short: 'h' }) },
    ]),
  );
  let parsed: { values: Flags; positionals: string[] };
  try {
    parsed = parseArgs({ args, options, allowPositionals: true }) as typeof parsed;
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
  if (parsed.values['help'] === true) {
    process.stdout.write(commandHelp(name, command));
    return;
  }
  const { operands } = command;
  if (parsed.positionals.length !== operands.length) {
    throw new UsageError(
      `gear-kv ${name} takes ${operands.length === 0 ? 'no file' : operands.map((operand) => `<${operand}>`).join(' ')}; ` +
        `${parsed.positionals.length} given`,
    );
  }
  await command.run(parsed.positionals, parsed.values);
}

function commandHelp(name: string, command: Command): string {
  const usage = ['gear-kv', name, ...command.operands.map((operand) => `<${operand}>`), '[options]'].join(' ');
  const rows = Object.entries({ ...command.flags, help }).map(([flag, { value, help: text }]): [string, string] => [
    `--${flag}${value === undefined ? '' : ` <${value}>`}`,
    text,
  ]);
  const width = Math.max(...rows.map(([left]) => left.length));
  const lines = rows.map(([left, text]) => `  ${left.padEnd(width)}  ${text}`);
  const details = command.details === undefined ? '' : `${command.details}\n\n`;
  return `${command.summary}\n\nUsage: ${usage}\n\n${details}${lines.join('\n')}\n`;
}

/** A message for standard error, without a stack where the cause is known. */
export function failureText(error: unknown): string {
  if (error instanceof GearError) return `${error.message} [${error.code}]`;
  if (error instanceof UsageError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
