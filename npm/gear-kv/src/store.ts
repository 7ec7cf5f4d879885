// gear-kv/store: where saved caches are kept, and a cache of prompts on top of it.

export type { About, Json } from './about.js';
export type { TokenIds } from './adapters/token-ids.js';
export { GearError, type GearErrorCode } from './errors.js';
export type { Compute, PromptEntry, PromptGetOptions, PromptHit, PromptResult } from './prompt-cache/entry.js';
export { PromptCache, type PromptCacheOptions } from './prompt-cache/prompt-cache.js';
export { init } from './public.js';
export type { KeyOptions, SealKey } from './seal-key.js';
export { FileStore } from './store/files.js';
export { IndexedDbStore } from './store/indexed-db.js';
export { MemoryStore } from './store/memory.js';
export { OpfsStore } from './store/opfs.js';
export { type RedisClientLike, RedisStore, type RedisStoreOptions } from './store/redis.js';
export type { Store, StoreCallOptions, StoreEntry } from './store/store.js';
