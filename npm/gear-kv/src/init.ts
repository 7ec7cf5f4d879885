import {
  type BackendChoice,
  type BackendInfo,
  backendInfo,
  defaultBackend,
  type InitSource,
  startBackend,
  startDefault,
} from './backend/selection.js';
import { type CacheDevice, type DeviceChoice, openDevice } from './device.js';

/**
 * Starts the WebAssembly module. Needed once in a browser and in a worker; Node, Deno and Bun start it by themselves,
 * and where the native module is in use there is nothing to start.
 *
 * It may be called again, and at the same time: calls share one start, and do nothing once it has succeeded. After a
 * failure it can be tried again.
 *
 * @param input - Where the module is: a URL, a `Response` (or a promise of one), its bytes, or a compiled
 * `WebAssembly.Module`. Default: the file that ships beside this one.
 * @throws GearError `BACKEND_UNAVAILABLE` where it cannot be fetched, compiled or started; `INVALID_OPTION`.
 */
export async function init(input?: InitSource): Promise<void> {
  await startDefault(input);
}

/** Which backend this entry point computes with. @throws GearError `BACKEND_UNAVAILABLE`. */
export function backend(): BackendInfo {
  return backendInfo();
}

/**
 * Loads one backend and says what it is; the default stays what it was. In a browser this is `init()`.
 *
 * @throws GearError `BACKEND_UNAVAILABLE`, `INVALID_OPTION`.
 */
export async function loadBackend(name: BackendChoice): Promise<BackendInfo> {
  await startBackend(name);
  return backendInfo(name);
}

/**
 * Opens the GPU in the background, for caches with `device: 'cuda'` or `'auto'` that come later. The first of them in a process would do it on the
 * calling thread, and where the driver has not compiled these kernels before, that takes some ten seconds.
 *
 * @param device - `auto` (default): says why where there is none. `cuda`: rejects then.
 * @throws GearError `BACKEND_UNAVAILABLE`, `INVALID_OPTION`.
 */
export async function loadDevice(device: DeviceChoice = 'auto'): Promise<CacheDevice> {
  return openDevice(defaultBackend(), device);
}
