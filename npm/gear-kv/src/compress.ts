import { checkedSignal, turn, withCancel } from './abort.js';
import type { TensorHandle } from './backend/binding.js';
import { guarded, settled } from './backend/failure.js';
import { type BackendChoice, backendFor } from './backend/selection.js';
import { GearError } from './errors.js';
import { type KvArray, type KvData, kvArray, outputArray, ownedKvArray, writeInto } from './kv-array.js';
import { checkedOptions, checkedRole, type GearOptions, optionsJson, type Role, refuseUnknown } from './options.js';
import { checkedShape, elementCount, type KvShape, type ResolvedKvShape, tokensOf } from './shape.js';
import {
  type CompressedTensor,
  changeable,
  liveHandle,
  packedTensor,
  type TensorState,
  tensorInfo,
  tensorState,
} from './tensor.js';

/** Options of {@link compressSync}: what the tensor is, and how to compress it. */
export interface CompressSyncOptions extends GearOptions {
  /** The shape of `data`, laid out `[batch, heads, tokens, headDim]`. */
  shape: KvShape;
  /** Keys or values. */
  role: Role;
  /** Which backend computes. Default: this entry point's. */
  backend?: BackendChoice;
}

/** Options of {@link compress}. */
export interface CompressOptions extends CompressSyncOptions {
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of {@link decompressSync}. */
export interface DecompressSyncOptions {
  /** Where to write; exactly as long as the tensor has elements. Default: a new array. */
  out?: Float32Array;
}

/** Options of {@link decompress}. */
export interface DecompressOptions extends DecompressSyncOptions {
  /** Stops the work; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of {@link append}. */
export interface AppendOptions {
  /** Stops the work, leaving the tensor as it was; the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

interface Request {
  readonly input: KvArray;
  readonly shape: ResolvedKvShape;
  readonly role: Role;
  readonly json: string;
}

function compressRequest(data: unknown, options: CompressSyncOptions): Request {
  const { shape: givenShape, role: givenRole, backend: _, ...settings } = options;
  const input = kvArray('data', data);
  const shape = checkedShape(givenShape);
  const expected = elementCount(shape);
  if (input.data.length !== expected) {
    const { batch, heads, tokens, headDim } = shape;
    throw new GearError(
      'SHAPE_MISMATCH',
      `data has ${input.data.length} elements; expected ${expected} = batch ${batch} × heads ${heads} × tokens ${tokens} × headDim ${headDim}`,
    );
  }
  return { input, shape, role: checkedRole(givenRole), json: optionsJson(settings) };
}

type CompressArguments = [
  batch: number,
  heads: number,
  tokens: number,
  headDim: number,
  role: string,
  optionsJson: string,
];

function compressArguments({ shape, role, json }: Request): CompressArguments {
  return [shape.batch, shape.heads, shape.tokens, shape.headDim, role, json];
}

function compressNow(request: Request, choice: BackendChoice | undefined): CompressedTensor {
  const backend = backendFor(choice);
  const { Tensor } = backend.binding;
  const rest = compressArguments(request);
  const { input } = request;
  const handle = guarded(() =>
    input.kind === 'f32' ? Tensor.compressF32(input.data, ...rest) : Tensor.compressF16(input.data, ...rest),
  );
  return packedTensor(backend, handle);
}

/**
 * Compresses one K or V tensor on the calling thread. On the native backend the input is read in place.
 *
 * @param data - `[batch, heads, tokens, headDim]`, keys after RoPE.
 * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `OUT_OF_RANGE`, `BACKEND_UNAVAILABLE`.
 */
export function compressSync(data: KvData, options: CompressSyncOptions): CompressedTensor {
  const checked = checkedOptions<CompressSyncOptions>('the second argument of compressSync', options);
  return compressNow(compressRequest(data, checked), checked.backend);
}

/**
 * Compresses one K or V tensor in the background: `X ≈ D̂ + L + S` (paper, section 3).
 *
 * `data` is read before the call returns, so it may be changed or transferred right after. On the WebAssembly backend,
 * which has one thread, the work itself runs on the calling thread, after one turn of the event loop.
 *
 * @param data - `[batch, heads, tokens, headDim]`, keys after RoPE.
 * @throws GearError `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `OUT_OF_RANGE`, `BACKEND_UNAVAILABLE`;
 * the signal's reason where that fired.
 */
export async function compress(data: KvData, options: CompressOptions): Promise<CompressedTensor> {
  const { signal: given, ...rest } = checkedOptions<CompressOptions>('the second argument of compress', options);
  const signal = checkedSignal(given);
  signal?.throwIfAborted();
  const request = compressRequest(data, rest);
  const backend = backendFor(rest.backend);
  const { tasks } = backend;
  if (tasks === undefined) {
    const owned = { ...request, input: ownedKvArray(request.input) };
    await turn(signal);
    return compressNow(owned, rest.backend);
  }
  const { input } = request;
  const handle = await withCancel<TensorHandle>(
    (cancel) =>
      settled(() =>
        input.kind === 'f32'
          ? tasks.compressTaskF32(input.data, ...compressArguments(request), cancel)
          : tasks.compressTaskF16(input.data, ...compressArguments(request), cancel),
      ),
    new tasks.Cancel(),
    signal,
    (late) => late.release(),
  );
  return packedTensor(backend, handle);
}

function decompressTarget(packed: CompressedTensor, out: unknown): Float32Array {
  const { batch, heads, tokens, headDim } = tensorInfo(packed).shape;
  const layout = `batch ${batch} × heads ${heads} × tokens ${tokens} × headDim ${headDim}`;
  return outputArray('out', out, batch * heads * tokens * headDim, layout);
}

/**
 * Decompresses on the calling thread, to `[batch, heads, tokens, headDim]`.
 *
 * @returns `out`, or a new array that is exactly sized and the caller's own.
 * @throws GearError `DISPOSED`, `SHAPE_MISMATCH` for an `out` of another length.
 */
export function decompressSync(packed: CompressedTensor, options: DecompressSyncOptions = {}): Float32Array {
  const { out } = checkedOptions<DecompressSyncOptions>('the second argument of decompressSync', options);
  refuseUnknown('decompressSync', options, ['out']);
  const handle = liveHandle(packed);
  return writeInto(decompressTarget(packed, out), (target) => guarded(() => handle.decompressInto(target)));
}

/**
 * Decompresses in the background, to `[batch, heads, tokens, headDim]`. What is decompressed is the tensor as it is
 * now: a later `append` does not change the result. The WebAssembly backend works on the calling thread after one
 * turn of the event loop.
 *
 * @returns `out`, or a new array that is exactly sized and the caller's own.
 * @throws GearError `DISPOSED`, `SHAPE_MISMATCH` for an `out` of another length; the signal's reason where that fired.
 */
export async function decompress(packed: CompressedTensor, options: DecompressOptions = {}): Promise<Float32Array> {
  const { out, signal: given } = checkedOptions<DecompressOptions>('the second argument of decompress', options);
  refuseUnknown('decompress', options, ['out', 'signal']);
  const signal = checkedSignal(given);
  const handle = liveHandle(packed);
  if (out !== undefined) decompressTarget(packed, out);
  signal?.throwIfAborted();
  const { tasks } = tensorState(packed).backend;
  if (tasks !== undefined) {
    const result = await withCancel(
      (cancel) => settled(() => tasks.decompressTask(handle, cancel)),
      new tasks.Cancel(),
      signal,
    );
    if (out === undefined) return result;
    // Checked again: `out` may have been transferred in the meantime.
    const target = outputArray('out', out, result.length, 'the length of the tensor');
    target.set(result);
    return target;
  }
  const snapshot = guarded(() => handle.fork());
  try {
    const elements = elementCount(tensorInfo(packed).shape);
    await turn(signal);
    const target = outputArray('out', out, elements, 'the length of the tensor');
    return writeInto(target, (floats) => guarded(() => snapshot.decompressInto(floats)));
  } finally {
    snapshot.release();
  }
}

function appendInput(packed: CompressedTensor, data: unknown): { input: KvArray; tokens: number } {
  const input = kvArray('data', data);
  const { batch, heads, headDim } = tensorInfo(packed).shape;
  const layout = `[${batch}, ${heads}, new tokens, ${headDim}]`;
  return { input, tokens: tokensOf('data', input.data.length, batch * heads * headDim, layout) };
}

function appendNow(state: TensorState, handle: TensorHandle, input: KvArray, tokens: number): void {
  guarded(() => (input.kind === 'f32' ? handle.appendF32(input.data, tokens) : handle.appendF16(input.data, tokens)));
  state.info = undefined;
}

/**
 * Adds tokens on the calling thread; see {@link append}.
 *
 * @throws GearError `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`, `BUSY`, `DISPOSED`.
 */
export function appendSync(packed: CompressedTensor, data: KvData): void {
  const handle = changeable(packed, 'appendSync');
  const { input, tokens } = appendInput(packed, data);
  appendNow(tensorState(packed), handle, input, tokens);
}

/**
 * Adds tokens in the background (paper, "streaming buffer"): they wait in float16, and become a segment of their own
 * when the buffer is full; a longer run (a prompt) becomes a segment at once. All or nothing: after an error the tensor is
 * what it was. Appends that overlap are done one after the other, in the order of the calls; `data` is read before the
 * call returns.
 *
 * @param data - `[batch, heads, new tokens, headDim]`; the number of tokens follows from its length.
 * @throws GearError `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`, `DISPOSED`; the signal's reason where that fired.
 */
export async function append(packed: CompressedTensor, data: KvData, options: AppendOptions = {}): Promise<void> {
  const { signal: given } = checkedOptions<AppendOptions>('the third argument of append', options);
  refuseUnknown('append', options, ['signal']);
  const signal = checkedSignal(given);
  liveHandle(packed);
  signal?.throwIfAborted();
  const { input, tokens } = appendInput(packed, data);
  const state = tensorState(packed);
  const { pending } = state;
  // The task of the native module copies its input itself when it starts, and only then.
  const owned = pending !== undefined || state.backend.tasks === undefined ? ownedKvArray(input) : input;
  const work = appendAfter(packed, state, pending, owned, tokens, signal);
  state.pending = work;
  try {
    await work;
  } finally {
    if (state.pending === work) state.pending = undefined;
  }
}

async function appendAfter(
  packed: CompressedTensor,
  state: TensorState,
  pending: Promise<unknown> | undefined,
  input: KvArray,
  tokens: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (pending !== undefined) await pending.catch(() => {});
  signal?.throwIfAborted();
  const { tasks } = state.backend;
  if (tasks === undefined) {
    await turn(signal);
    appendNow(state, liveHandle(packed), input, tokens);
    return;
  }
  // The work is done on a fork that takes the tensor's place at the end: work that was given up on may still be
  // winding down, and must not be seen.
  const before = liveHandle(packed);
  const next = guarded(() => before.fork());
  try {
    await withCancel(
      (cancel) =>
        settled(() =>
          input.kind === 'f32'
            ? tasks.appendTaskF32(next, input.data, tokens, cancel)
            : tasks.appendTaskF16(next, input.data, tokens, cancel),
        ),
      new tasks.Cancel(),
      signal,
    );
    liveHandle(packed);
  } catch (error) {
    next.release();
    throw error;
  }
  state.handle = next;
  state.info = undefined;
  before.release();
}
