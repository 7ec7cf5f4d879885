import type { Backend, ContainerHandle } from '../backend/binding.js';
import { guarded } from '../backend/failure.js';
import type { ResolvedGearOptions, Role } from '../options.js';
import type { ResolvedKvShape } from '../shape.js';
import type { Parts } from '../tensor.js';

/** A compressed tensor in a `.gear` file. */
export interface TensorEntry {
  kind: 'tensor';
  name: string;
  role: Role;
  shape: ResolvedKvShape;
  config: ResolvedGearOptions;
  byteLength: number;
  parts: Parts;
  metadata?: Record<string, unknown>;
}

/** A tensor that was kept as it is. */
export interface RawEntry {
  kind: 'raw';
  name: string;
  dtype: string;
  shape: number[];
  metadata?: Record<string, unknown>;
}

/** A tensor of a frozen cache. */
export interface FrozenEntry {
  kind: 'frozen';
  name: string;
  role: Role;
  shape: ResolvedKvShape;
  config: ResolvedGearOptions;
  section?: [number, number];
}

/** What a `.gear` file says about itself. */
export interface ContainerInfo {
  kind: 'tensor' | 'tensors' | 'cache' | 'frozen';
  entries: (TensorEntry | RawEntry | FrozenEntry)[];
}

/**
 * The entry that holds the `__metadata__` of the safetensors file, as JSON. No tensor of such a file can have this name.
 */
export const FILE_METADATA = '__metadata__';

const MAGIC = [0x89, 0x47, 0x45, 0x41, 0x52, 0x4b, 0x56, 0x0a];

/** True for a file that begins as a `.gear` container does. */
export function isContainer(file: Uint8Array): boolean {
  return MAGIC.every((byte, index) => file[index] === byte);
}

/** Opens a container for the time of `use`. */
export function withContainer<Result>(
  backend: Backend,
  file: Uint8Array,
  use: (container: ContainerHandle, info: ContainerInfo) => Result,
): Result {
  const container = guarded(() => backend.binding.Container.parse(file));
  try {
    return use(container, JSON.parse(guarded(() => container.info())) as ContainerInfo);
  } finally {
    container.release();
  }
}
