import type { CacheReaderHandle } from './backend/binding.js';
import { joined } from './byte-stream.js';
import { describe, GearError } from './errors.js';
import { byteArray } from './kv-array.js';
import { checkedOptions, refuseUnknown } from './options.js';

/** What JSON can hold. */
export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** An array that travels along with a saved cache, kept as it is. */
export interface AboutArray {
  /** A safetensors data type: `F32`, `F16`, `BF16`, `I64`, `U8`, … */
  dtype: string;
  /** Row-major; `[]` for a scalar. */
  shape: readonly number[];
  /** As many bytes as `dtype` and `shape` say, little-endian. */
  data: Uint8Array;
}

/** What a saved cache says of itself. gear-kv writes it and gives it back; what it means is the application's business. */
export interface About {
  /** Which model the cache is of: up to 1,024 bytes that are compared as they are. */
  model?: string;
  /** The tokens that were computed: up to 16,777,216. */
  tokenIds?: Uint32Array;
  /** Anything that JSON can hold: up to 1 MiB, 64 levels deep. An empty object is left out. */
  metadata?: { readonly [name: string]: Json };
  /** Arrays that belong to the cache but are not part of it, as the states of other layers: up to 4,096. */
  arrays?: { readonly [name: string]: AboutArray };
}

/** Options of `save` and `toStream`. */
export interface AboutOptions {
  /** What the file is to say of the cache. Default: nothing. */
  about?: About;
}

/** What a binding takes: JSON, and beside it the bytes of token ids and arrays, one after the other. */
export interface AboutParts {
  readonly json: string;
  readonly bytes: Uint8Array;
}

/** What the core says of a container. */
export interface Told {
  kind: 'cache' | 'frozen';
  cache: { layers: number; batch: number; kvHeads: number; headDim: number };
  tokens: number;
  byteLength: number;
  model?: string;
  tokenIds?: number;
  metadata?: { readonly [name: string]: Json };
  arrays: { name: string; dtype: string; shape: number[]; byteLength: number }[];
}

const FIELDS = ['model', 'tokenIds', 'metadata', 'arrays'];
const NOTHING: AboutParts = { json: '', bytes: new Uint8Array() };

/** Checks an {@link About} and takes it apart; the bytes are copies. */
export function aboutParts(given: unknown): AboutParts {
  if (given === undefined) return NOTHING;
  const about = checkedOptions<About>('about', given);
  refuseUnknown('about', about, FIELDS);
  const { model, tokenIds, metadata, arrays = {} } = about;
  if (model !== undefined && typeof model !== 'string') throw wrong('model', model, 'a string');
  const pieces: Uint8Array[] = [];
  if (tokenIds !== undefined) pieces.push(idBytes(tokenIds));
  const named = Object.entries(plainObject('arrays', arrays)).map(([name, array]) => {
    const what = `about.arrays['${name}']`;
    const { dtype, shape, data } = checkedOptions<AboutArray>(what, array);
    refuseUnknown(what, array as object, ['dtype', 'shape', 'data']);
    if (typeof dtype !== 'string') throw wrong(`arrays['${name}'].dtype`, dtype, "a string such as 'F32'");
    const bytes = byteArray(`${what}.data`, data);
    pieces.push(bytes);
    return { name, dtype, shape: checkedShape(name, shape), byteLength: bytes.length };
  });
  const json = jsonOf({
    model,
    tokenIds: tokenIds?.length,
    metadata: metadata === undefined ? undefined : plainObject('metadata', metadata),
    arrays: named,
  });
  return { json, bytes: joined(pieces) };
}

/** What a reader found, or undefined where the container says nothing of its cache. */
export function aboutOf(reader: CacheReaderHandle): Readonly<About> | undefined {
  const told = JSON.parse(reader.about()) as Told;
  const { model, tokenIds, metadata, arrays } = told;
  if (model === undefined && tokenIds === undefined && metadata === undefined && arrays.length === 0) return undefined;
  const bytes = reader.aboutBytes();
  let position = 4 * (tokenIds ?? 0);
  const named = arrays.map(({ name, dtype, shape, byteLength }): [string, AboutArray] => {
    const data = bytes.slice(position, position + byteLength);
    position += byteLength;
    return [name, { dtype, shape, data }];
  });
  return Object.freeze({
    ...(model !== undefined && { model }),
    ...(tokenIds !== undefined && { tokenIds: tokenIdsOf(bytes, tokenIds) }),
    ...(metadata !== undefined && { metadata }),
    ...(named.length > 0 && { arrays: Object.fromEntries(named) }),
  });
}

/** Token ids from the bytes that begin with them. */
export function tokenIdsOf(bytes: Uint8Array, count: number): Uint32Array {
  return new Uint32Array(bytes.slice(0, 4 * count).buffer);
}

function idBytes(ids: unknown): Uint8Array {
  if (Object.prototype.toString.call(ids) !== '[object Uint32Array]') throw wrong('tokenIds', ids, 'a Uint32Array');
  return byteArray('about.tokenIds', ids);
}

function checkedShape(name: string, shape: unknown): readonly number[] {
  const whole = (extent: unknown): boolean => Number.isSafeInteger(extent) && (extent as number) >= 0;
  if (Array.isArray(shape) && shape.every(whole)) return shape as number[];
  throw wrong(`arrays['${name}'].shape`, shape, 'an array of whole numbers');
}

function plainObject(field: string, value: unknown): object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value)) return value;
  throw wrong(field, value, 'an object');
}

function jsonOf(value: object): string {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new GearError('INVALID_OPTION', `about.metadata cannot be written as JSON: ${message}`, { cause });
  }
}

function wrong(field: string, given: unknown, expected: string): GearError {
  return new GearError('INVALID_OPTION', `about.${field} is ${describe(given)}; expected ${expected}`);
}
