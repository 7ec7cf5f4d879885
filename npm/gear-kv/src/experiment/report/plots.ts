// The plots of a report. The library that draws them is loaded when there is one to draw.

import type { Cell, Findings, Plot } from './findings.js';

/** A plot as it stands in a report. */
export interface Drawing {
  readonly id: string;
  readonly title: string;
  /** SVGs for wide and for narrow pages; none where there was nothing to draw. */
  readonly wide?: string;
  readonly narrow?: string;
  /** What the picture leaves out. */
  readonly remark?: string;
}

/** Draws what there is to draw. */
export async function drawings({ plots }: Findings, signal: AbortSignal | undefined): Promise<readonly Drawing[]> {
  const drawn: Drawing[] = [];
  for (const plot of plots) {
    signal?.throwIfAborted();
    drawn.push(await drawing(plot));
  }
  return drawn;
}

async function drawing(plot: Plot): Promise<Drawing> {
  const { id, title, kind, rows } = plot;
  const shown = rows.filter((row) => isDrawable(plot, row));
  // A field of a heat map that has no figure is shown as such, and says more than its absence.
  const missing = kind === 'heat-map' ? 0 : rows.length - shown.length;
  if (shown.length === 0) return { id, title, remark: 'There are no figures to draw.' };
  // The bundler makes a file of its own of this one, and of the library in it.
  const { draw } = await import('./draw.js');
  const remark = `${missing} of ${rows.length} points ${missing === 1 ? 'has' : 'have'} no figure that this scale can show.`;
  return {
    id,
    title,
    wide: await draw({ ...plot, rows: shown }, 'wide'),
    narrow: await draw({ ...plot, rows: shown }, 'narrow'),
    ...(missing > 0 ? { remark } : {}),
  };
}

function isDrawable({ x, y, kind }: Plot, row: Plot['rows'][number]): boolean {
  if (!isPlace(row[x.key], x.scale === 'log')) return false;
  if (kind === 'heat-map') return isPlace(row[y.key], y.scale === 'log');
  return Number.isFinite(row[y.key]) && isPlace(row[y.key], y.scale === 'log');
}

function isPlace(cell: Cell | undefined, logarithmic: boolean): boolean {
  return typeof cell === 'string' ? !logarithmic : Number.isFinite(cell) && (!logarithmic || (cell as number) > 0);
}
