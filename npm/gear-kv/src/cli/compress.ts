import type { Backend, ContainerWriterHandle } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import { backendFor } from '../backend/selection.js';
import { compressSync } from '../compress.js';
import { GearError } from '../errors.js';
import { readFileBytes } from '../file.js';
import { type GearOptions, optionsJson, type Role } from '../options.js';
import { liveHandle } from '../tensor.js';
import { FILE_METADATA, isContainer } from './container.js';
import { printResult, refuseOverwrite, writeOutput } from './files.js';
import { Progress } from './progress.js';
import {
  isCompressible,
  kvShapeOf,
  roleOf,
  type SafetensorsEntry,
  safetensorsEntries,
  safetensorsMetadata,
  tensorData,
} from './safetensors.js';
import { bytesText, table } from './table.js';
import { backendFlag, type Command, type Flags, gearOptions, optionFlags, sharedFlags, UsageError } from './usage.js';

interface Line {
  name: string;
  role: Role;
  preset: string;
  shape: number[];
  bytesIn: number;
  byteLength: number;
  ratio: number;
  bitsPerElement: number;
}

/** `gear-kv compress`. */
export const compressCommand: Command = {
  summary: 'Compress the K and V tensors of a safetensors file',
  operands: ['in.safetensors', 'out.gear'],
  flags: {
    ...optionFlags,
    'key-preset': { type: 'string', value: 'name', help: 'preset of keys alone' },
    'value-preset': { type: 'string', value: 'name', help: 'preset of values alone' },
    role: { type: 'string', value: 'auto|key|value', help: 'what the tensors are (default: auto, by their names)' },
    ...sharedFlags,
  },
  async run([input = '', output = ''], flags) {
    const role = roleFlag(flags);
    const backend = backendFor(backendFlag(flags));
    checkOptions(backend, flags);
    await refuseOverwrite(output, flags);
    const file = await readFileBytes(input);
    if (isContainer(file)) throw new GearError('CORRUPT_DATA', `${input} is a .gear file; it is compressed already`);
    const entries = safetensorsEntries(backend, file);
    const { bytes, lines, kept } = compressed(backend, file, entries, role, flags);
    if (lines.length === 0) {
      throw new GearError(
        'INVALID_OPTION',
        `${input} has no K or V tensor among its ${entries.length}: expected F32, F16 or BF16 of shape [heads, tokens, ` +
          'headDim] or [batch, heads, tokens, headDim], named *key*, *value*, *.k or *.v; --role key or value takes any name',
      );
    }
    await writeOutput(output, bytes, flags);
    printResult(
      flags,
      { input, output, bytesIn: file.length, bytesOut: bytes.length, tensors: lines, kept },
      report(input, output, file.length, bytes.length, lines, kept),
    );
  },
};

function roleFlag(flags: Flags): Role | 'auto' {
  const role = flags['role'] ?? 'auto';
  if (role === 'auto' || role === 'key' || role === 'value') return role;
  throw new UsageError(`--role is '${String(role)}'; expected auto, key or value`);
}

function optionsFor(role: Role, flags: Flags): GearOptions {
  const preset = flags[`${role}-preset`];
  const options = gearOptions(flags);
  return typeof preset === 'string' ? ({ ...options, preset } as GearOptions) : options;
}

/** A misspelt preset is found before anything is read or written. */
function checkOptions(backend: Backend, flags: Flags): void {
  for (const role of ['key', 'value'] as const) {
    const json = optionsJson(optionsFor(role, flags));
    guarded(() => backend.binding.resolveOptions(json, role));
  }
}

function compressed(
  backend: Backend,
  file: Uint8Array,
  entries: readonly SafetensorsEntry[],
  forced: Role | 'auto',
  flags: Flags,
): { bytes: Uint8Array; lines: Line[]; kept: string[] } {
  const lines: Line[] = [];
  const kept: string[] = [];
  const progress = new Progress('compressing', entries.length);
  const writer = guarded(() => backend.binding.ContainerWriter.create());
  try {
    for (const entry of entries) {
      progress.step(entry.name);
      const { name, dtype, shape } = entry;
      const kvShape = isCompressible(dtype) ? kvShapeOf(shape) : undefined;
      const role = forced === 'auto' ? roleOf(name) : forced;
      if (kvShape === undefined || role === undefined) {
        const raw = file.subarray(entry.begin, entry.end);
        guarded(() => writer.addRaw(name, dtype, JSON.stringify(shape), raw, '{}'));
        kept.push(name);
        continue;
      }
      const data = tensorData(backend, file, entry);
      const packed = named(name, () =>
        compressSync(data, { ...optionsFor(role, flags), shape: kvShape, role, backend: backend.name }),
      );
      guarded(() => writer.addTensor(name, liveHandle(packed), JSON.stringify({ dtype, shape })));
      const { byteLength, ratio, bitsPerElement, options } = packed;
      const bytesIn = entry.end - entry.begin;
      lines.push({ name, role, preset: options.preset, shape, bytesIn, byteLength, ratio, bitsPerElement });
      packed.dispose();
    }
    addFileMetadata(backend, writer, file);
    return { bytes: guarded(() => writer.finish()), lines, kept };
  } finally {
    progress.end();
    writer.release();
  }
}

function addFileMetadata(backend: Backend, writer: ContainerWriterHandle, file: Uint8Array): void {
  const metadata = safetensorsMetadata(backend, file);
  if (Object.keys(metadata).length === 0) return;
  const json = new TextEncoder().encode(JSON.stringify(metadata));
  guarded(() => writer.addRaw(FILE_METADATA, 'U8', JSON.stringify([json.length]), json, '{}'));
}

/** Says which of the file's tensors an error is about. */
function named<Result>(name: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof GearError)) throw error;
    throw new GearError(error.code, `${name}: ${error.message}`, { cause: error });
  }
}

function report(
  input: string,
  output: string,
  bytesIn: number,
  bytesOut: number,
  lines: readonly Line[],
  kept: readonly string[],
): string {
  const rows = lines.map((line) => [
    line.name,
    line.role,
    line.shape.join('×'),
    line.preset,
    line.bitsPerElement.toFixed(2),
    bytesText(line.byteLength),
    `${line.ratio.toFixed(2)}×`,
  ]);
  const columns = [
    { heading: 'tensor', align: 'left' },
    { heading: 'role', align: 'left' },
    { heading: 'shape' },
    { heading: 'preset', align: 'left' },
    { heading: 'bits/element' },
    { heading: 'bytes' },
    { heading: 'vs float16' },
  ] as const;
  const others = kept.length === 0 ? '' : `; ${kept.length} other tensors kept as they are`;
  return `${table(columns, rows)}\n${input} ${bytesText(bytesIn)} → ${output} ${bytesText(bytesOut)}${others}\n`;
}
