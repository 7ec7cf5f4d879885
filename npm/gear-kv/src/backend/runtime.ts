// What differs between Node, Deno, Bun and browsers, found at run time and without a static import of a `node:` module:
// bundlers for browsers would stumble over one.

import type * as NodeFs from 'node:fs';
import type * as NodeModule from 'node:module';
import type * as NodeOs from 'node:os';
import type * as NodePath from 'node:path';
import type * as NodeUrl from 'node:url';

interface BuiltinModules {
  'node:fs': typeof NodeFs;
  'node:module': typeof NodeModule;
  'node:os': typeof NodeOs;
  'node:path': typeof NodePath;
  'node:url': typeof NodeUrl;
}

interface ServerProcess {
  env?: Record<string, string | undefined>;
  getBuiltinModule?: (name: string) => unknown;
  versions?: { node?: string };
}

function serverProcess(): ServerProcess | undefined {
  const candidate = (globalThis as { process?: ServerProcess }).process;
  return typeof candidate?.versions?.node === 'string' ? candidate : undefined;
}

/** A module of the runtime (Node, Deno and Bun have the same), or undefined in a browser. */
export function builtin<Name extends keyof BuiltinModules>(name: Name): BuiltinModules[Name] | undefined {
  return serverProcess()?.getBuiltinModule?.(name) as BuiltinModules[Name] | undefined;
}

/** An environment variable; undefined where there is none or where Deno was not allowed to read it. */
export function environment(name: string): string | undefined {
  try {
    return serverProcess()?.env?.[name];
  } catch {
    return undefined;
  }
}

/** The URL of the bundle that this code ended up in (`dist/…`), in ES modules and CommonJS. */
export function bundleUrl(): string {
  // CommonJS first: there `import.meta` is empty. Only where it is a real path: bundlers mock `__filename`.
  const url = typeof __filename === 'string' ? builtin('node:url') : undefined;
  if (url !== undefined) return url.pathToFileURL(__filename).href;
  return import.meta.url;
}
