import { describe, GearError } from '../errors.js';
import { builtin, bundleUrl } from './runtime.js';

/** `WebAssembly.Module`, where the types of the surroundings have it: those of Node alone do not. It is an empty interface: alone it would allow a number. */
export type WasmModule = typeof globalThis extends { WebAssembly: { Module: new (...given: never[]) => infer Module } }
  ? Module & object
  : never;

/**
 * Where the WebAssembly module comes from: its URL, a response to a request for it, its bytes, or the module itself
 * compiled. A string is a URL (relative to the page), or in Node, Deno and Bun also a path.
 */
export type InitInput =
  | URL
  | string
  | Request
  | Response
  | Promise<Response>
  | ArrayBuffer
  | ArrayBufferView
  | WasmModule;

/**
 * The `.wasm` file that ships beside the bundle; undefined where code does not know where it lies, as in CommonJS that
 * was bundled for a browser.
 */
export function packagedWasm(): URL | undefined {
  try {
    // CommonJS has no import.meta; its bundle lies in the same folder.
    if (typeof __filename === 'string' && builtin('node:url') !== undefined) {
      return new URL('./wasm/gearkv_wasm_bg.wasm', bundleUrl());
    }
    // Bundlers recognise this very expression and copy the file.
    return new URL('./wasm/gearkv_wasm_bg.wasm', import.meta.url);
  } catch {
    return undefined;
  }
}

/** Reads and compiles the packaged file on the calling thread, or returns undefined in a browser. */
export function compiledFromDisk(): WasmModule | undefined {
  const fs = builtin('node:fs');
  if (fs === undefined) return undefined;
  const file = packagedWasm();
  if (file?.protocol !== 'file:') return undefined;
  try {
    return new WebAssembly.Module(fs.readFileSync(file));
  } catch (cause) {
    throw unavailable(`the WebAssembly file ${file.pathname} could not be loaded: ${text(cause)}`, cause);
  }
}

/** Brings any {@link InitInput} to a compiled module. */
export async function compiled(input: InitInput | undefined): Promise<WasmModule> {
  const given = await (input ?? packagedWasm());
  if (given === undefined) {
    throw unavailable(
      'it is not known here where the WebAssembly file lies; pass its URL, its bytes or the compiled module to init() ' +
        '(the file is gear-kv/gearkv.wasm)',
    );
  }
  if (given instanceof WebAssembly.Module) return given;
  if (typeof given === 'string' || tag(given) === 'URL') return compiledFromUrl(given as string | URL);
  if (tag(given) === 'Request') return compiledFromResponse(await fetched(given as Request));
  if (tag(given) === 'Response') return compiledFromResponse(given as Response);
  if (ArrayBuffer.isView(given) || tag(given) === 'ArrayBuffer') return compiledFromBytes(given as BufferSource);
  throw new GearError(
    'INVALID_OPTION',
    `init() was given ${describe(given)}; expected a URL, a Request, a Response, bytes or a WebAssembly.Module`,
  );
}

async function compiledFromUrl(location: string | URL): Promise<WasmModule> {
  const fs = builtin('node:fs');
  if (fs !== undefined) {
    const file = fileLocation(location);
    if (file !== undefined) {
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = new Uint8Array(await fs.promises.readFile(file));
      } catch (cause) {
        throw unavailable(`the WebAssembly file ${String(location)} could not be read: ${text(cause)}`, cause);
      }
      return compiledFromBytes(bytes);
    }
  }
  return compiledFromResponse(await fetched(location));
}

/** A path or file: URL, which Node's fetch does not read; undefined for anything else. */
function fileLocation(location: string | URL): string | URL | undefined {
  const scheme = /^([a-z][a-z0-9+.-]+):/i.exec(String(location))?.[1];
  if (scheme === undefined) return String(location);
  return scheme.toLowerCase() === 'file' ? new URL(location) : undefined;
}

async function fetched(location: string | URL | Request): Promise<Response> {
  try {
    return await fetch(location);
  } catch (cause) {
    const url = tag(location) === 'Request' ? (location as Request).url : String(location);
    throw unavailable(`the WebAssembly file could not be fetched from ${url}: ${text(cause)}`, cause);
  }
}

async function compiledFromResponse(response: Response): Promise<WasmModule> {
  if (!response.ok) {
    throw unavailable(
      `the WebAssembly file could not be fetched: ${response.url || 'the response'} answered ${response.status}`,
    );
  }
  if (response.bodyUsed) {
    throw unavailable('the Response given to init() was read already; pass a fresh one or its clone()');
  }
  // compileStreaming insists on the MIME type, which many static servers do not send.
  if (/^application\/wasm(;|$)/i.test(response.headers.get('content-type') ?? '')) {
    try {
      return await WebAssembly.compileStreaming(response);
    } catch (cause) {
      throw unavailable(`the WebAssembly file could not be compiled: ${text(cause)}`, cause);
    }
  }
  return compiledFromBytes(await response.arrayBuffer());
}

async function compiledFromBytes(bytes: BufferSource): Promise<WasmModule> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw unavailable(`the bytes given are not this package's WebAssembly file: ${text(cause)}`, cause);
  }
}

function unavailable(message: string, cause?: unknown): GearError {
  return new GearError('BACKEND_UNAVAILABLE', message, { cause });
}

function text(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

function tag(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}
