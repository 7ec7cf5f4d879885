// Memory that is left, asked before the system would have to end the process in the middle of an example.

import { freemem } from 'node:os';
import { GearError } from '../errors.js';
import { cellText } from './report/format.js';

/** Bytes that this process can still take, by what the system, its container or its limit leaves it. */
export function bytesLeft(): number {
  // Other runtimes than Node may have no such figure.
  return process.availableMemory?.() ?? freemem();
}

/**
 * Refuses what cannot fit. It is thrown, not noted as a result: once there is more memory, the same command goes on.
 *
 * @param bytes - What it takes at the least.
 * @throws GearError `INVALID_OPTION`.
 */
export function assertFits(what: string, bytes: number, left = bytesLeft()): void {
  if (bytes <= left) return;
  throw new GearError(
    'INVALID_OPTION',
    `${what} takes at least ${cellText(bytes, 'bytes')} of memory, and ${cellText(left, 'bytes')} are left; end other programs, or ask for less: what is done is kept, and the same command goes on with it`,
  );
}
