const BAR_CELLS = 30;

/** A bar for a share from 0 to 1. */
export function bar(share: number): string {
  const cells = Math.round(BAR_CELLS * Math.min(1, Math.max(0, share)));
  return `${'█'.repeat(cells)}${'░'.repeat(BAR_CELLS - cells)}`;
}

/** Shows a line in place of the one before, on standard error, which must be a terminal. */
export function showStatus(text: string): void {
  process.stderr.write(`\r\u001b[K${text.slice(0, Math.max(20, (process.stderr.columns ?? 80) - 1))}`);
}

/** Removes the line. */
export function clearStatus(): void {
  process.stderr.write('\r\u001b[K');
}
