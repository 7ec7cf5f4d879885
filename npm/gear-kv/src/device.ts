import type { Backend, CacheHandle } from './backend/binding.js';
import { guarded, settled } from './backend/failure.js';
import { describe, GearError } from './errors.js';

/** Where a cache is to be: see `device` of {@link GearCacheOptions}. */
export type DeviceChoice = 'auto' | 'cpu' | 'cuda';

/** Where a cache is. */
export type CacheDevice =
  | {
      /** In main memory. */
      readonly kind: 'cpu';
      /** Why it is not on a GPU, where `auto` asked for one. */
      readonly reason?: string;
    }
  | {
      /** In main memory and, layer by layer, on an NVIDIA GPU, which attends to it. */
      readonly kind: 'cuda';
      /** What its driver calls it. */
      readonly name: string;
      /** Bytes of the GPU's memory that layers take; a layer is there once something attended to it. */
      readonly byteLength: number;
    };

/** Of what reads or makes a cache: where that is to be. */
export interface DeviceOptions {
  /** Where the cache is to be: see {@link GearCacheOptions}. Default `cpu`. */
  device?: DeviceChoice;
}

/** Checks a choice. */
export function checkedDevice(device: unknown): DeviceChoice {
  if (device === undefined || device === 'cpu') return 'cpu';
  if (device === 'auto' || device === 'cuda') return device;
  throw new GearError('INVALID_OPTION', `device is ${describe(device)}; expected 'auto', 'cpu' or 'cuda'`);
}

/** Takes `device` out of options; what the others mean is for whoever takes them to know. */
export function withoutDevice<Options extends DeviceOptions>(
  options: Options,
): { device: DeviceChoice; others: Omit<Options, 'device'> } {
  if (typeof options !== 'object' || options === null) return { device: 'cpu', others: options };
  const { device, ...others } = options;
  return { device: checkedDevice(device), others };
}

const NATIVE_ALONE =
  'the WebAssembly backend computes on the CPU; for a GPU use the native module (gear-kv or gear-kv/native in Node, Deno and Bun)';

/** Opens the GPU in the background, for {@link loadDevice}. */
export async function openDevice({ name, tasks }: Backend, choice: unknown): Promise<CacheDevice> {
  const device = checkedDevice(choice);
  if (device === 'cpu') return { kind: 'cpu' };
  if (tasks !== undefined) {
    return JSON.parse(await settled(() => tasks.openDeviceTask(device === 'auto'))) as CacheDevice;
  }
  if (device === 'auto') return { kind: 'cpu', reason: NATIVE_ALONE };
  throw notIn(name);
}

const notIn = (backend: string): GearError =>
  new GearError('BACKEND_UNAVAILABLE', `device 'cuda' is not available in backend '${backend}': ${NATIVE_ALONE}`);

/**
 * Brings a new cache to where it is to be; a cache that cannot go there is released. Gives the reason why it is not, where `auto` does
 * without and the backend cannot say so itself.
 *
 * @throws GearError `BACKEND_UNAVAILABLE` where there is no GPU, `INVALID_OPTION` for what a GPU does not hold, both with `cuda` alone.
 */
export function place(backend: Backend, handle: CacheHandle, device: DeviceChoice): string | undefined {
  if (device === 'cpu') return undefined;
  if (handle.place === undefined) {
    if (device === 'auto') return NATIVE_ALONE;
    handle.release();
    throw notIn(backend.name);
  }
  try {
    guarded(() => handle.place?.(device === 'auto'));
  } catch (error) {
    handle.release();
    throw error;
  }
  return undefined;
}

/** Where a cache is; `reason` is what {@link place} gave. */
export function deviceOf(handle: CacheHandle, reason: string | undefined): CacheDevice {
  if (handle.device === undefined) return reason === undefined ? { kind: 'cpu' } : { kind: 'cpu', reason };
  const told = guarded(() => handle.device?.());
  return JSON.parse(told as string) as CacheDevice;
}
