import { describe, GearError } from './errors.js';

/**
 * The secret that seals: 32 random bytes, or the same as a `CryptoKey` that cannot be exported,
 * `crypto.subtle.importKey('raw', bytes, 'HKDF', false, ['deriveKey'])`. Not a password: those need a slow derivation (scrypt, Argon2) first.
 */
export type SealKey = Uint8Array | ArrayBuffer | CryptoKey;

/** Options that take a key. */
export interface KeyOptions {
  /** Seals what is written, or opens what was sealed. Default: nothing is sealed. */
  key?: SealKey;
}

/** A key that was looked at: a copy of its bytes, or a key of WebCrypto. */
export type CheckedKey = Uint8Array<ArrayBuffer> | CryptoKey;

const KEY_BYTES = 32;

/** Checks a key, and copies its bytes. @throws GearError `INVALID_OPTION`. */
export function checkedKey(key: unknown): CheckedKey {
  if (isCryptoKey(key)) {
    if (key.algorithm.name === 'HKDF' && key.usages.includes('deriveKey')) return key;
    throw new GearError(
      'INVALID_OPTION',
      `key is a CryptoKey for ${key.algorithm.name} (${key.usages.join(', ')}); expected one for HKDF that may deriveKey: ` +
        "crypto.subtle.importKey('raw', bytes, 'HKDF', false, ['deriveKey'])",
    );
  }
  const isView = ArrayBuffer.isView(key);
  if (!isView && Object.prototype.toString.call(key) !== '[object ArrayBuffer]') {
    throw new GearError(
      'INVALID_OPTION',
      `key is ${typeof key === 'string' ? 'a string' : describe(key)}; ${EXPECTED}`,
    );
  }
  const bytes = isView
    ? new Uint8Array(new Uint8Array(key.buffer, key.byteOffset, key.byteLength))
    : new Uint8Array(new Uint8Array(key as ArrayBuffer));
  if (bytes.length !== KEY_BYTES) {
    throw new GearError('INVALID_OPTION', `key has ${bytes.length} bytes; ${EXPECTED}`);
  }
  return bytes;
}

/** The same of an option that may be absent. */
export function optionalKey(key: unknown): CheckedKey | undefined {
  return key === undefined ? undefined : checkedKey(key);
}

const EXPECTED =
  'expected 32 random bytes (crypto.getRandomValues(new Uint8Array(32)), kept in a safe place), or a CryptoKey for HKDF';

// Structural: other realms have their own class.
function isCryptoKey(key: unknown): key is CryptoKey {
  return Object.prototype.toString.call(key) === '[object CryptoKey]';
}

/** WebCrypto, which browsers have on secure pages alone. @throws GearError `BACKEND_UNAVAILABLE`. */
export function subtleCrypto(): SubtleCrypto {
  const { subtle } = (globalThis as { crypto?: { subtle?: SubtleCrypto } }).crypto ?? {};
  if (subtle !== undefined) return subtle;
  throw new GearError(
    'BACKEND_UNAVAILABLE',
    'sealing needs crypto.subtle, which is not here; a browser has it on pages from https: and from localhost',
  );
}

/** A key for one purpose, from which neither the secret nor another purpose's key follows. */
export async function derivedKey<Algorithm extends AesDerivedKeyParams | HmacImportParams>(
  key: CheckedKey,
  salt: Uint8Array<ArrayBuffer>,
  purpose: string,
  algorithm: Algorithm,
  usages: KeyUsage[],
): Promise<CryptoKey> {
  const subtle = subtleCrypto();
  const secret = isCryptoKey(key) ? key : await subtle.importKey('raw', key, 'HKDF', false, ['deriveKey']);
  const info = new TextEncoder().encode(purpose);
  return subtle.deriveKey({ name: 'HKDF', hash: 'SHA-256', salt, info }, secret, algorithm, false, usages);
}
