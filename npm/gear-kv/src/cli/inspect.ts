import type { Backend } from '../backend/binding.js';
import { backendFor } from '../backend/selection.js';
import { GearError } from '../errors.js';
import { readFileBytes } from '../file.js';
import { elementCount } from '../shape.js';
import {
  FILE_METADATA,
  type FrozenEntry,
  isContainer,
  type RawEntry,
  type TensorEntry,
  withContainer,
} from './container.js';
import { printResult } from './files.js';
import { isCompressible, kvShapeOf, roleOf, safetensorsEntries } from './safetensors.js';
import { bytesText, type Column, table } from './table.js';
import { backendFlag, type Command, sharedFlags } from './usage.js';

/** `gear-kv inspect`. */
export const inspectCommand: Command = {
  summary: 'Show what a .gear or safetensors file holds',
  operands: ['file'],
  flags: { json: sharedFlags.json, backend: sharedFlags.backend },
  async run([path = ''], flags) {
    const backend = backendFor(backendFlag(flags));
    const file = await readFileBytes(path);
    const { json, text } = isContainer(file)
      ? inspectContainer(backend, file)
      : inspectSafetensors(backend, path, file);
    printResult(flags, { file: path, bytes: file.length, ...json }, `${path}: ${bytesText(file.length)}\n\n${text}`);
  },
};

interface Inspection {
  json: object;
  text: string;
}

const containerColumns: readonly Column[] = [
  { heading: 'tensor', align: 'left' },
  { heading: 'role', align: 'left' },
  { heading: 'shape' },
  { heading: 'preset', align: 'left' },
  { heading: 'bits' },
  { heading: 'bits/element' },
  { heading: 'vs float16' },
  { heading: 'bytes' },
  ...['codes', 'scales', 'low-rank', 'sparse', 'sinks', 'buffer', 'headers'].map((heading) => ({ heading })),
];

function inspectContainer(backend: Backend, file: Uint8Array): Inspection {
  return withContainer(backend, file, (_, { kind, entries: all }) => {
    const entries = all.filter(({ name }) => name !== FILE_METADATA);
    const seen = entries.map((entry): [object, string[]] => {
      if (entry.kind === 'tensor') return [described(entry), tensorRow(entry)];
      return entry.kind === 'frozen' ? [frozen(entry), frozenRow(entry)] : [kept(entry), rawRow(entry)];
    });
    const tensors = seen.map(([json]) => json);
    const rows = seen.map(([, row]) => row);
    return { json: { format: 'gear', kind, tensors }, text: table(containerColumns, rows) };
  });
}

function sizes({ byteLength, shape }: Pick<TensorEntry, 'byteLength' | 'shape'>): {
  ratio: number;
  bitsPerElement: number;
} {
  const elements = elementCount(shape);
  return elements === 0
    ? { ratio: 0, bitsPerElement: 0 }
    : { ratio: (2 * elements) / byteLength, bitsPerElement: (8 * byteLength) / elements };
}

function described(entry: TensorEntry): object {
  const { name, role, shape, config, byteLength, parts, metadata } = entry;
  // Headers leave out what is 0.
  const { preset, bits, meanBits = 0 } = config;
  return { name, role, shape, preset, bits, meanBits, ...sizes(entry), byteLength, parts, options: config, metadata };
}

function kept({ name, dtype, shape, metadata }: RawEntry): object {
  return { name, role: null, dtype, shape, metadata };
}

function tensorRow(entry: TensorEntry): string[] {
  const { name, role, shape, config, byteLength, parts } = entry;
  const { ratio, bitsPerElement } = sizes(entry);
  const bits = config.storage === 'gear' ? String(config.meanBits || config.bits) : config.storage.replace('float', '');
  return [
    name,
    role,
    [shape.batch, shape.heads, shape.tokens, shape.headDim].join('×'),
    config.preset,
    bits,
    bitsPerElement.toFixed(2),
    `${ratio.toFixed(2)}×`,
    bytesText(byteLength),
    ...[parts.codes, parts.scales, parts.lowRank, parts.sparse, parts.sinks, parts.buffer, parts.headers].map(
      bytesText,
    ),
  ];
}

function frozenSizes({ shape, section }: FrozenEntry): ReturnType<typeof sizes> & { byteLength: number } {
  const byteLength = section?.[1] ?? 0;
  return { ...sizes({ shape, byteLength }), byteLength };
}

function frozen(entry: FrozenEntry): object {
  const { name, role, shape } = entry;
  return { name, role, shape, frozen: true, ...frozenSizes(entry) };
}

function frozenRow(entry: FrozenEntry): string[] {
  const { name, role, shape } = entry;
  const { ratio, bitsPerElement, byteLength } = frozenSizes(entry);
  const extents = [shape.batch, shape.heads, shape.tokens, shape.headDim].join('×');
  return [name, role, extents, 'frozen', '', bitsPerElement.toFixed(2), `${ratio.toFixed(2)}×`, bytesText(byteLength)];
}

function rawRow({ name, dtype, shape }: RawEntry): string[] {
  return [name, '', shape.join('×'), `kept as ${dtype}`];
}

function inspectSafetensors(backend: Backend, path: string, file: Uint8Array): Inspection {
  let entries: ReturnType<typeof safetensorsEntries>;
  try {
    entries = safetensorsEntries(backend, file);
  } catch (cause) {
    throw new GearError('CORRUPT_DATA', `${path} is neither a .gear nor a safetensors file`, { cause });
  }
  const tensors = entries.map(({ name, dtype, shape, begin, end }) => {
    const compressible = isCompressible(dtype) && kvShapeOf(shape) !== undefined;
    return { name, role: (compressible ? roleOf(name) : undefined) ?? null, dtype, shape, bytes: end - begin };
  });
  const rows = tensors.map(({ name, role, dtype, shape, bytes }) => [
    name,
    role ?? '',
    shape.join('×'),
    dtype,
    bytesText(bytes),
  ]);
  const columns = [
    { heading: 'tensor', align: 'left' },
    { heading: 'role', align: 'left' },
    { heading: 'shape' },
    { heading: 'type', align: 'left' },
    { heading: 'bytes' },
  ] as const;
  return { json: { format: 'safetensors', tensors }, text: table(columns, rows) };
}
