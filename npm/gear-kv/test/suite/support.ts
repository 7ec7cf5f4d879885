import type { ExecutionContext } from 'ava';
import * as gear from 'gear-kv';

interface TestEnvironment {
  backend: 'native' | 'wasm';
  runtime: 'node' | 'chromium' | 'deno' | 'bun';
  /** One of the fixtures; the others lie beside it. */
  fixtureUrl?: string;
  /** The instruction set that has to be in use. */
  simd?: string;
}

const server = (globalThis as { process?: { env: Record<string, string | undefined> } }).process;

function environmentOf(): TestEnvironment {
  const given = (globalThis as { GEARKV_TEST?: TestEnvironment }).GEARKV_TEST;
  if (given !== undefined) return given;
  const backend = server?.env['GEARKV_BACKEND'] ?? 'native';
  if (backend !== 'native' && backend !== 'wasm') throw new Error(`GEARKV_BACKEND is ${backend}`);
  return { backend, runtime: 'node' };
}

export const environment = environmentOf();

await gear.init();

/** Node and Bun have both backends behind one import; elsewhere each has an import of its own. */
export const hasBothBackends = environment.runtime === 'node' || environment.runtime === 'bun';

/** The backend that is not under test. */
export const otherBackend = environment.backend === 'native' ? 'wasm' : 'native';

/** A fixture's bytes. */
export async function fixture(name: string): Promise<Uint8Array> {
  if (environment.runtime === 'chromium') {
    const beside = new URL(environment.fixtureUrl ?? '/fixtures/', location.href);
    const response = await fetch(new URL(name, beside));
    if (!response.ok) throw new Error(`${response.url}: ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  }
  const fsName = 'node:fs/promises';
  const { readFile } = (await import(fsName)) as typeof import('node:fs/promises');
  return readFile(new URL(name, environment.fixtureUrl ?? new URL('../../../../fixtures/', import.meta.url)));
}

/** Checks that a call throws a `GearError` with this code and a message that fits. */
export function refuses(t: ExecutionContext, code: string, call: () => unknown, message = /./): void {
  const error = t.throws(call);
  isGearError(t, error, code, message);
}

/** Checks that a promise rejects with a `GearError` with this code and a message that fits. */
export async function rejects(
  t: ExecutionContext,
  code: string,
  call: () => Promise<unknown>,
  message = /./,
): Promise<void> {
  const error = await t.throwsAsync(call);
  isGearError(t, error, code, message);
}

function isGearError(t: ExecutionContext, error: unknown, code: string, message: RegExp): void {
  t.true(error instanceof gear.GearError, `${String(error)} is not a GearError`);
  t.is((error as { code?: unknown }).code, code);
  t.regex((error as Error).message, message);
  t.false((error as Error).message.includes('[gearkv:'), 'the code belongs in error.code');
}

/** True for the same bits; much faster than `deepEqual` on large arrays. */
export function sameBits(a: ArrayBufferView, b: ArrayBufferView): boolean {
  if (a.byteLength !== b.byteLength) return false;
  const left = new Uint8Array(a.buffer, a.byteOffset, a.byteLength);
  const right = new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
  return left.every((byte, index) => byte === right[index]);
}

export { presets } from './presets.js';
export { gear };
