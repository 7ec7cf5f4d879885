import { checkedSignal } from '../abort.js';
import { describe, GearError } from '../errors.js';
import { checkedOptions, checkedPositive, refuseUnknown } from '../options.js';
import { checkedName, type Store, type StoreCallOptions, type StoreEntry, stoppable, storing } from './store.js';

/** What is used of a connected client of the npm package `redis`, version 5 or later. */
export interface RedisClientLike {
  /** Sends a command. */
  sendCommand(args: readonly string[], options?: object): Promise<unknown>;
}

/** Options of {@link RedisStore}. */
export interface RedisStoreOptions {
  /** In front of every key. Default: `gear-kv:`. */
  prefix?: string;
  /** How long a value is kept after it was put or touched last. Default: a day. */
  ttlSeconds?: number;
  /** The most that one value may have. Default: 1 GiB. */
  maxValueBytes?: number;
}

type Send = (args: readonly (string | Uint8Array)[], options?: { typeMapping: object }) => Promise<unknown>;

interface Head {
  /** Which chunks are those of this value: every put has its own. */
  readonly id: string;
  readonly chunks: number;
  readonly byteLength: number;
}

const CHUNK_BYTES = 1 << 20;
/** The type of a reply that holds bytes, in the protocol; the client makes a string of it unless told otherwise. */
const BLOB_STRING = 36;

/**
 * A store in Redis, for many servers. A value is in chunks of 1 MiB, each a key with a time to live, and a head that is written last and names them.
 */
export class RedisStore implements Store {
  readonly #send: Send;
  readonly #prefix: string;
  readonly #ttl: string;
  readonly #most: number;

  /**
   * @param client - Connected; it stays the caller's to close.
   * @throws GearError `INVALID_OPTION`.
   */
  constructor(client: RedisClientLike, options: RedisStoreOptions = {}) {
    if (typeof client?.sendCommand !== 'function') {
      throw new GearError(
        'INVALID_OPTION',
        `client is ${describe(client)}; expected a client of the package 'redis': await createClient().connect()`,
      );
    }
    const known = ['prefix', 'ttlSeconds', 'maxValueBytes'];
    refuseUnknown('RedisStore', checkedOptions('the options of RedisStore', options), known);
    const { prefix = 'gear-kv:', ttlSeconds = 86_400, maxValueBytes = 2 ** 30 } = options;
    if (typeof prefix !== 'string') {
      throw new GearError('INVALID_OPTION', `prefix is ${describe(prefix)}; expected a string`);
    }
    this.#send = (args, more) => (client.sendCommand as unknown as Send).call(client, args, more);
    this.#prefix = prefix;
    this.#ttl = String(checkedPositive('ttlSeconds', ttlSeconds));
    this.#most = checkedPositive('maxValueBytes', maxValueBytes);
  }

  /** {@link Store.get} */
  async get(name: string, options: StoreCallOptions = {}): Promise<AsyncIterable<Uint8Array> | undefined> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    return storing(`${name} could not be read`, signal, async () => {
      const head = await this.#head(name);
      return head && stoppable(this.#chunks(name, head), signal);
    });
  }

  /** {@link Store.put} */
  async put(name: string, bytes: AsyncIterable<Uint8Array>, options: StoreCallOptions = {}): Promise<void> {
    checkedName(name);
    const signal = checkedSignal(options.signal);
    await storing(`${name} could not be kept`, signal, async () => {
      const id = crypto.randomUUID();
      let chunks = 0;
      let byteLength = 0;
      try {
        for await (const piece of stoppable(bytes, signal)) {
          byteLength += piece.length;
          if (byteLength > this.#most) {
            throw new GearError(
              'STORAGE_FULL',
              `${name} has more than the ${this.#most} bytes that a value may have here; raise maxValueBytes`,
            );
          }
          for (let at = 0; at < piece.length; at += CHUNK_BYTES) {
            const chunk = asBuffer(piece.subarray(at, at + CHUNK_BYTES));
            await this.#command(['SET', this.#chunkKey(name, id, chunks), chunk, 'EX', this.#ttl]);
            chunks += 1;
          }
        }
        const head = JSON.stringify({ id, chunks, byteLength } satisfies Head);
        await this.#command(['SET', this.#key('used', name), String(Date.now()), 'EX', this.#ttl]);
        const old = await this.#command(['SET', this.#key('head', name), head, 'EX', this.#ttl, 'GET']);
        await this.#forget(name, headOf(old));
      } catch (error) {
        await this.#forget(name, { id, chunks, byteLength }).catch(() => {});
        throw error;
      }
    });
  }

  /** {@link Store.delete} */
  async delete(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be deleted`, undefined, async () => {
      const head = headOf(await this.#command(['GETDEL', this.#key('head', name)]));
      await this.#command(['DEL', this.#key('used', name)]);
      await this.#forget(name, head);
    });
  }

  /** {@link Store.list} */
  async list(): Promise<StoreEntry[]> {
    return storing('Redis could not be listed', undefined, async () => {
      const start = this.#key('head', '');
      const pattern = `${start.replace(/[\\*?[\]]/g, '\\$&')}*`;
      const names = new Set<string>();
      for (let cursor = '0', first = true; first || cursor !== '0'; first = false) {
        const reply = await this.#command(['SCAN', cursor, 'MATCH', pattern, 'COUNT', '1000']);
        const [next, keys] = reply as [unknown, unknown[]];
        cursor = String(next);
        for (const key of keys) names.add(String(key).slice(start.length));
      }
      const all = [...names];
      if (all.length === 0) return [];
      const heads = (await this.#command(['MGET', ...all.map((name) => this.#key('head', name))])) as unknown[];
      const uses = (await this.#command(['MGET', ...all.map((name) => this.#key('used', name))])) as unknown[];
      return all.flatMap((name, index) => {
        const head = headOf(heads[index]);
        return head === undefined ? [] : [{ name, byteLength: head.byteLength, usedAt: Number(uses[index] ?? 0) }];
      });
    });
  }

  /** {@link Store.touch} */
  async touch(name: string): Promise<void> {
    checkedName(name);
    await storing(`${name} could not be touched`, undefined, async () => {
      const head = await this.#head(name);
      if (head === undefined) return;
      // The head last: what it names must outlive it.
      const keys = Array.from({ length: head.chunks }, (_, index) => this.#chunkKey(name, head.id, index));
      for (const key of [...keys, this.#key('head', name)]) await this.#command(['EXPIRE', key, this.#ttl]);
      await this.#command(['SET', this.#key('used', name), String(Date.now()), 'EX', this.#ttl]);
    });
  }

  async *#chunks(name: string, { id, chunks }: Head): AsyncGenerator<Uint8Array> {
    const asBytes = { typeMapping: { [BLOB_STRING]: bufferClass() } };
    for (let index = 0; index < chunks; index++) {
      const chunk = await this.#command(['GET', this.#chunkKey(name, id, index)], asBytes);
      if (!(chunk instanceof Uint8Array)) {
        throw new GearError('IO_FAILED', `${name} went away while it was read: deleted, replaced or expired`);
      }
      yield new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    }
  }

  async #head(name: string): Promise<Head | undefined> {
    return headOf(await this.#command(['GET', this.#key('head', name)]));
  }

  async #forget(name: string, head: Head | undefined): Promise<void> {
    for (let index = 0; index < (head?.chunks ?? 0); index++) {
      await this.#command(['DEL', this.#chunkKey(name, head?.id ?? '', index)]);
    }
  }

  async #command(args: readonly (string | Uint8Array)[], options?: { typeMapping: object }): Promise<unknown> {
    try {
      return await this.#send(args, options);
    } catch (cause) {
      const message = cause instanceof Error ? cause.message : String(cause);
      const full = /^OOM /.test(message);
      throw new GearError(full ? 'STORAGE_FULL' : 'IO_FAILED', `Redis refused ${args[0]}: ${message}`, { cause });
    }
  }

  #key(what: 'head' | 'used', name: string): string {
    return `${this.#prefix}${what}:${name}`;
  }

  #chunkKey(name: string, id: string, index: number): string {
    return `${this.#prefix}chunk:${name}:${id}:${index}`;
  }
}

function headOf(reply: unknown): Head | undefined {
  if (reply === null || reply === undefined) return undefined;
  try {
    const { id, chunks, byteLength } = JSON.parse(String(reply)) as Partial<Head>;
    const counts = [chunks, byteLength].every((count) => Number.isSafeInteger(count) && (count as number) >= 0);
    if (typeof id === 'string' && counts) return { id, chunks: chunks as number, byteLength: byteLength as number };
  } catch {
    // Not ours.
  }
  return undefined;
}

interface BufferClass {
  from(buffer: ArrayBufferLike, byteOffset: number, length: number): Uint8Array;
}

/** What the client takes and gives for bytes, in Node, Deno and Bun. */
function bufferClass(): BufferClass {
  return (globalThis as unknown as { Buffer: BufferClass }).Buffer;
}

function asBuffer(bytes: Uint8Array): Uint8Array {
  return bufferClass().from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
