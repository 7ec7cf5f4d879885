import type { Backend, ContainerHandle } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import { backendFor } from '../backend/selection.js';
import { GearError } from '../errors.js';
import { readFileBytes } from '../file.js';
import { newFloat32Array } from '../kv-array.js';
import { elementCount } from '../shape.js';
import { FILE_METADATA, type TensorEntry, withContainer } from './container.js';
import { printResult, refuseOverwrite, writeOutput } from './files.js';
import { Progress } from './progress.js';
import { isCompressible, type OutgoingTensor, safetensorsFile, tensorBytes } from './safetensors.js';
import { bytesText } from './table.js';
import { backendFlag, type Command, sharedFlags } from './usage.js';

/** `gear-kv decompress`. */
export const decompressCommand: Command = {
  summary: 'Turn a .gear file back into a safetensors file',
  operands: ['in.gear', 'out.safetensors'],
  flags: sharedFlags,
  async run([input = '', output = ''], flags) {
    const backend = backendFor(backendFlag(flags));
    await refuseOverwrite(output, flags);
    const file = await readFileBytes(input);
    const { tensors, metadata } = decompressed(backend, file);
    const bytes = safetensorsFile(backend, tensors, metadata);
    await writeOutput(output, bytes, flags);
    const list = tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape }));
    printResult(
      flags,
      { input, output, bytesIn: file.length, bytesOut: bytes.length, tensors: list },
      `${input} ${bytesText(file.length)} → ${output} ${bytesText(bytes.length)}, ${tensors.length} tensors\n`,
    );
  },
};

function decompressed(
  backend: Backend,
  file: Uint8Array,
): { tensors: OutgoingTensor[]; metadata: Record<string, string> | undefined } {
  return withContainer(backend, file, (container, info) => {
    const entries = info.entries.filter(({ name }) => name !== FILE_METADATA);
    const metadata = entries.length < info.entries.length ? fileMetadata(container) : undefined;
    const progress = new Progress('decompressing', entries.length);
    try {
      const tensors = entries.map((entry): OutgoingTensor => {
        progress.step(entry.name);
        if (entry.kind === 'tensor') return thawed(backend, container, entry);
        if (entry.kind === 'frozen') {
          throw new GearError('INVALID_OPTION', 'the file holds a frozen cache; FrozenCache.load() and thaw() read it');
        }
        const { name, dtype, shape } = entry;
        return { name, dtype, shape, bytes: guarded(() => container.raw(name)) };
      });
      return { tensors, metadata };
    } finally {
      progress.end();
    }
  });
}

function fileMetadata(container: ContainerHandle): Record<string, string> {
  const json = guarded(() => container.raw(FILE_METADATA));
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json)) as Record<string, string>;
  } catch (cause) {
    throw new GearError('CORRUPT_DATA', `the entry ${FILE_METADATA} is not the metadata of a safetensors file`, {
      cause,
    });
  }
}

function thawed(backend: Backend, container: ContainerHandle, entry: TensorEntry): OutgoingTensor {
  const { name, shape } = entry;
  const floats = newFloat32Array(elementCount(shape));
  const tensor = guarded(() => container.tensor(name));
  try {
    guarded(() => tensor.decompressInto(floats));
  } finally {
    tensor.release();
  }
  const { dtype, shape: originalShape } = origin(entry);
  return { name, dtype, shape: originalShape, bytes: tensorBytes(backend, floats, dtype) };
}

/** Element type and shape of the file it came from; a saved cache has none, and becomes float32. */
function origin({ metadata, shape }: TensorEntry): { dtype: 'F32' | 'F16' | 'BF16'; shape: number[] } {
  const full = [shape.batch, shape.heads, shape.tokens, shape.headDim];
  const given = metadata?.['dtype'];
  const dtype = typeof given === 'string' && isCompressible(given) ? given : 'F32';
  // Metadata is only a hint: what does not describe the tensor is ignored.
  const noted = metadata?.['shape'];
  const dropsBatch =
    shape.batch === 1 && Array.isArray(noted) && noted.length === 3 && noted.every((size, i) => size === full[i + 1]);
  return { dtype, shape: dropsBatch ? full.slice(1) : full };
}
