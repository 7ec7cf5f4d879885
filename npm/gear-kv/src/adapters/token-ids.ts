import { describe, GearError } from '../errors.js';

/** Token ids of one sequence: numbers, big integers, or a tensor of them as tokenizers and `generate` give it. */
export type TokenIds =
  | ArrayLike<number>
  | ArrayLike<bigint>
  | { readonly dims: readonly number[]; readonly data: unknown };

/** Token ids as a saved cache has them. @throws GearError `INVALID_OPTION`. */
export function checkedTokenIds(name: string, given: unknown): Uint32Array {
  const { dims, data } = (given ?? {}) as { dims?: unknown; data?: unknown };
  if (Array.isArray(dims) && dims.length > 1 && dims.slice(0, -1).some((size) => size !== 1)) {
    throw new GearError('INVALID_OPTION', `${name} has shape [${dims.join(', ')}]; expected those of one sequence`);
  }
  const list = (Array.isArray(dims) ? data : given) as Partial<ArrayLike<unknown>> | null | undefined;
  if (typeof list !== 'object' || typeof list?.length !== 'number') {
    throw new GearError(
      'INVALID_OPTION',
      `${name} is ${describe(given)}; expected token ids, as an array or as a tensor`,
    );
  }
  const ids = new Uint32Array(list.length);
  for (let index = 0; index < ids.length; index++) {
    const id = Number(list[index]);
    if (!Number.isInteger(id) || id < 0 || id > 0xffffffff) {
      throw new GearError('INVALID_OPTION', `${name}[${index}] is ${describe(list[index])}; expected a token id`);
    }
    ids[index] = id;
  }
  return ids;
}

/** How many ids both begin with. */
export function commonPrefix(one: Uint32Array, other: Uint32Array): number {
  const most = Math.min(one.length, other.length);
  let length = 0;
  while (length < most && one[length] === other[length]) length++;
  return length;
}
