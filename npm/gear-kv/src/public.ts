export type { About, AboutArray, AboutOptions, Json } from './about.js';
export type { BackendName } from './backend/binding.js';
export type { BackendChoice, BackendInfo, InitSource } from './backend/selection.js';
export type { InitInput } from './backend/wasm-input.js';
export type { ByteSource, StreamOptions } from './byte-stream.js';
export { GearCache } from './cache.js';
export type {
  AttendOptions,
  CacheAppendOptions,
  CacheSizes,
  CacheStats,
  GearCacheOptions,
  HalfStats,
  LayerStats,
  ShiftOptions,
} from './cache-options.js';
export {
  type AppendOptions,
  append,
  appendSync,
  type CompressOptions,
  type CompressSyncOptions,
  compress,
  compressSync,
  type DecompressOptions,
  type DecompressSyncOptions,
  decompress,
  decompressSync,
} from './compress.js';
export type { CacheDevice, DeviceChoice, DeviceOptions } from './device.js';
export { GearError, type GearErrorCode } from './errors.js';
export { FrozenCache } from './frozen.js';
export type { FreezeOptions, FrozenLayerStats, FrozenStats, ThawOptions } from './frozen-options.js';
export { backend, init, loadBackend, loadDevice } from './init.js';
export type { Float16ArrayLike, KvData } from './kv-array.js';
export {
  type Backbone,
  type GearOptions,
  type Preset,
  presets,
  type ResolvedGearOptions,
  type Role,
} from './options.js';
export { type AboutFile, type AboutSource, readAbout } from './read-about.js';
export { type SealOptions, seal, unseal } from './seal.js';
export type { KeyOptions, SealKey } from './seal-key.js';
export type { KvShape, ResolvedKvShape } from './shape.js';
export { CompressedTensor, type FromBytesOptions, type Parts } from './tensor.js';
