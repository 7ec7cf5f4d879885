// How much memory this process takes, as the system sees it.

import { readFileSync, writeFileSync } from 'node:fs';

/** Begins the measurement of the peak anew. Only Linux can; elsewhere the peak is that of the whole process. */
export function resetPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', '5');
    return true;
  } catch {
    return false;
  }
}

/** Bytes in memory now. */
export function residentBytes(): number {
  return fromStatus('VmRSS') ?? process.memoryUsage.rss();
}

/** The most bytes that were in memory at once. */
export function peakBytes(): number {
  return fromStatus('VmHWM') ?? process.resourceUsage().maxRSS * 1024;
}

function fromStatus(field: string): number | undefined {
  try {
    const kib = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    return kib === undefined ? undefined : Number(kib) * 1024;
  } catch {
    return undefined;
  }
}
