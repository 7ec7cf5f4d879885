import { GearError } from '../../errors.js';
import type { CacheChoice, GenerateOptions } from '../../llm/settings.js';
import { type LayerTuning, tunedCache } from '../../llm/tuning.js';
import type { Preset } from '../../options.js';
import { readJson } from '../files.js';
import { type Flag, type Flags, gearOptions, numberFlag, optionFlags, UsageError } from '../usage.js';

const { preset, bits, rank, 'decode-rank': decodeRank, sinks, 'buffer-tokens': bufferTokens } = optionFlags;

/** How the cache is compressed. */
export const cacheFlags = {
  preset,
  'key-preset': { type: 'string', value: 'name', help: 'preset of keys alone' },
  'value-preset': { type: 'string', value: 'name', help: 'preset of values alone' },
  bits,
  rank,
  'decode-rank': decodeRank,
  sinks,
  'buffer-tokens': bufferTokens,
  'layer-bits': { type: 'string', value: 'file', help: 'bits for each layer, as tune has found them for this model' },
} as const satisfies Record<string, Flag>;

/** How the next token is chosen. */
export const samplingFlags = {
  'max-tokens': { type: 'string', value: 'n', help: 'the most tokens to generate (default: 256)' },
  temperature: { type: 'string', value: 'x', help: 'above 0 for variety (default: 0, always the likeliest token)' },
  'top-k': { type: 'string', value: 'n', help: 'choose among the n likeliest tokens' },
  'top-p': { type: 'string', value: 'p', help: 'choose among the likeliest tokens that together have probability p' },
  'sampling-seed': { type: 'string', value: 'n', help: 'seed of the choice' },
  stop: {
    type: 'string',
    value: 'text',
    multiple: true,
    help: 'end the answer before this text; may be given several times',
  },
} as const satisfies Record<string, Flag>;

/** The cache that the flags choose. */
export async function cacheChoice(flags: Flags): Promise<CacheChoice> {
  const half = (name: string): { preset: Preset } | undefined => {
    const given = flags[name];
    return typeof given === 'string' ? { preset: given as Preset } : undefined;
  };
  const [key, value] = [half('key-preset'), half('value-preset')];
  const choice = { ...gearOptions(flags), ...(key && { key }), ...(value && { value }) };
  const tuning = await layerTuning(flags);
  return tuning === undefined ? choice : tunedCache(choice, tuning);
}

/** What `--layer-bits` names, or undefined where it is not given. */
export async function layerTuning(flags: Flags): Promise<LayerTuning | undefined> {
  const file = flags['layer-bits'];
  if (typeof file !== 'string') return undefined;
  const { key, value } = (await readJson(file)) as Partial<LayerTuning>;
  if (!Array.isArray(key?.layerBits) || !Array.isArray(value?.layerBits)) {
    throw new GearError(
      'INVALID_OPTION',
      `${file} has no key.layerBits and value.layerBits; expected what gear-kv tune writes`,
    );
  }
  return { key, value };
}

/** The sampling options among the flags. */
export function samplingOptions(flags: Flags): GenerateOptions {
  const names = {
    maxTokens: 'max-tokens',
    temperature: 'temperature',
    topK: 'top-k',
    topP: 'top-p',
    seed: 'sampling-seed',
  } as const;
  const numbers = Object.entries(names).map(([name, flag]) => [name, numberFlag(flags, flag)]);
  const { stop } = flags as { stop?: string[] };
  return { ...Object.fromEntries(numbers.filter(([, value]) => value !== undefined)), ...(stop && { stop }) };
}

/** Presets in a flag that may be given several times, and hold several of them between commas. */
export function presetList(flags: Flags): Preset[] | undefined {
  const given = flags['preset'] as string[] | undefined;
  const names = given?.flatMap((list) => list.split(',')).map((name) => name.trim());
  if (names?.some((name) => name === '')) throw new UsageError('--preset has an empty name in it');
  return names as Preset[] | undefined;
}

/** The flag that {@link presetList} reads. */
export const presetListFlag = {
  preset: { type: 'string', value: 'A,B,…', multiple: true, help: 'the presets' },
} as const satisfies Record<string, Flag>;
