import { describe, GearError } from './errors.js';

/** The shape of one K or V tensor, laid out `[batch, heads, tokens, headDim]`, channels innermost. */
export interface KvShape {
  /** Sequences computed side by side. Default 1. */
  batch?: number;
  /** KV heads (not query heads). */
  heads: number;
  /** Tokens; may be 0 for a tensor that is filled by `append`. */
  tokens: number;
  /** Channels of one head. */
  headDim: number;
}

/** A {@link KvShape} with nothing left out. */
export type ResolvedKvShape = Required<KvShape>;

/** The largest size that the Rust core takes. */
const LARGEST = 0xffff_ffff;

/** Checks one size: an integer from `least` up. */
export function checkedCount(name: string, value: unknown, least: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > LARGEST) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `${name} is ${describe(value)}; expected a whole number of at least ${least}`,
    );
  }
  return value;
}

/** Checks indices into `count` things; bigints are what int64 tensors have. */
export function checkedIndices(name: string, indices: unknown, count: number): Uint32Array {
  const isArray = Array.isArray(indices) || (ArrayBuffer.isView(indices) && !(indices instanceof DataView));
  if (!isArray || (indices as ArrayLike<unknown>).length === 0) {
    throw new GearError('SHAPE_MISMATCH', `${name} is ${describe(indices)}; expected an array of at least one index`);
  }
  return Uint32Array.from(indices as ArrayLike<number | bigint>, (given, i) => {
    const index = checkedCount(`${name}[${i}]`, typeof given === 'bigint' ? Number(given) : given, 0);
    if (index < count) return index;
    throw new GearError('SHAPE_MISMATCH', `${name}[${i}] is ${index}; there are 0 to ${count - 1}`);
  });
}

/** Checks a whole shape and fills in `batch`. */
export function checkedShape(shape: unknown): ResolvedKvShape {
  if (typeof shape !== 'object' || shape === null) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `shape is ${describe(shape)}; expected { batch?, heads, tokens, headDim } as in { heads: 3, tokens: 512, headDim: 64 }`,
    );
  }
  const { batch = 1, heads, tokens, headDim } = shape as Partial<KvShape>;
  return {
    batch: checkedCount('shape.batch', batch, 1),
    heads: checkedCount('shape.heads', heads, 1),
    tokens: checkedCount('shape.tokens', tokens, 0),
    headDim: checkedCount('shape.headDim', headDim, 1),
  };
}

/** The number of elements that a shape holds. */
export function elementCount(shape: ResolvedKvShape): number {
  return shape.batch * shape.heads * shape.tokens * shape.headDim;
}

/** How many tokens `length` elements are, when one token takes `perToken` of them. */
export function tokensOf(name: string, length: number, perToken: number, layout: string): number {
  if (length % perToken !== 0) {
    throw new GearError(
      'SHAPE_MISMATCH',
      `${name} has ${length} elements; expected ${layout}, which is a multiple of ${perToken}`,
    );
  }
  return length / perToken;
}
