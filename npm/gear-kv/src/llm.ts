// gear-kv/llm: a model that runs on a compressed cache. Node and Bun.
export { GearError, type GearErrorCode } from './errors.js';
export type { BatchGeneration, BatchPiece, BatchStats } from './llm/batch.js';
export type { DownloadProgress } from './llm/download.js';
export type {
  EvalCache,
  EvalLayerError,
  EvalPreset,
  EvalProgress,
  EvalRow,
  EvalText,
  EvalTexts,
  EvaluateOptions,
  Evaluation,
  EvalWindowFound,
  EvalWindowRow,
  EvalWindows,
} from './llm/evaluation.js';
export type { GenerateResult, Generation } from './llm/generation.js';
export { GearModel, type LoadOptions, type ModelInfo, type Perplexity } from './llm/model.js';
export { type FetchModelOptions, fetchModel } from './llm/model-file.js';
export type { WorkProgress } from './llm/progress.js';
export { type RequantizeOptions, type RequantizeResult, requantizeModel, type WeightType } from './llm/requantize.js';
export type { GearSession, SessionStats, SessionTimings } from './llm/session.js';
export type { CacheChoice, GenerateOptions, Message, SamplingOptions } from './llm/settings.js';
export {
  type HalfTuning,
  type LayerTuning,
  type TuneLayersOptions,
  type TuneProgress,
  tunedCache,
} from './llm/tuning.js';
export type { Backbone, GearOptions, Preset } from './options.js';
