import { type CheckedKey, derivedKey, subtleCrypto } from '../seal-key.js';

/** Where the prefixes of one model are kept: by a hash of what they are, and with a key by one that nobody else can compute. */
export class Addresses {
  readonly #model: Uint8Array;
  readonly #mac: Promise<CryptoKey> | undefined;
  #prefix: Promise<string> | undefined;

  constructor(model: string, key: CheckedKey | undefined) {
    this.#model = new TextEncoder().encode(model);
    if (key === undefined) return;
    const hmac = { name: 'HMAC', hash: 'SHA-256', length: 256 } as const;
    this.#mac = derivedKey(key, new Uint8Array(32), 'gear-kv address 1', hmac, ['sign']);
    // Whoever asks for an address hears of it.
    this.#mac.catch(() => {});
  }

  /** What the names of all of this model's prefixes begin with. */
  modelPrefix(): Promise<string> {
    this.#prefix ??= this.#digest(Uint8Array.of(0)).then((bytes) => `${hex(bytes, 8)}-`);
    return this.#prefix;
  }

  /** The name of one prefix. */
  async of(tokenIds: Uint32Array): Promise<string> {
    const bytes = new Uint8Array(1 + 4 * tokenIds.length);
    bytes[0] = 1;
    const view = new DataView(bytes.buffer);
    tokenIds.forEach((id, index) => {
      view.setUint32(1 + 4 * index, id, true);
    });
    return `${await this.modelPrefix()}${hex(await this.#digest(bytes), 24)}`;
  }

  /** Of the model's name, its length before it, and what follows. */
  async #digest(rest: Uint8Array): Promise<Uint8Array> {
    const bytes = new Uint8Array(4 + this.#model.length + rest.length);
    new DataView(bytes.buffer).setUint32(0, this.#model.length, true);
    bytes.set(this.#model, 4);
    bytes.set(rest, 4 + this.#model.length);
    const subtle = subtleCrypto();
    const mac = await this.#mac;
    return new Uint8Array(
      mac === undefined ? await subtle.digest('SHA-256', bytes) : await subtle.sign('HMAC', mac, bytes),
    );
  }
}

function hex(bytes: Uint8Array, count: number): string {
  return Array.from(bytes.subarray(0, count), (byte) => byte.toString(16).padStart(2, '0')).join('');
}
