// What stands in a report beside tables and plots, in an order that the page and the Markdown share.

import type { Cell, Column, Findings, Table } from './findings.js';
import { cellText, columnText, durationText } from './format.js';

/** Names and what belongs to them. */
export type Facts = readonly (readonly [name: string, value: string])[];

/** One list of facts for each model. */
export function modelFacts({ models }: Findings): readonly { readonly name: string; readonly facts: Facts }[] {
  return models.map(({ name, file, bytes, sha256, details }) => ({
    name,
    facts: [
      ['File', file],
      ['Size', cellText(bytes, 'bytes')],
      ...(sha256 === undefined ? [] : [['SHA-256', sha256] as const]),
      ...Object.entries(details).map(([key, value]) => [key, cellText(value)] as const),
    ],
  }));
}

/** Where the examples came from, as a table. */
export function dataTable({ data }: Findings): Table {
  return {
    id: 'data',
    title: 'Data',
    columns: [
      { key: 'name', heading: 'Data' },
      { key: 'examples', heading: 'Examples' },
      { key: 'licence', heading: 'Licence' },
      { key: 'source', heading: 'Source' },
    ],
    rows: data.map((source) => ({ ...source })),
  };
}

/** On what it ran, and with what. */
export function runFacts({ machine, seed, version, date, seconds }: Findings): Facts {
  return [
    ['Processor', machine.cpu],
    ['Cores', String(machine.cores)],
    ...(machine.simd === undefined ? [] : [['Instructions', machine.simd] as const]),
    ['Memory', cellText(machine.memoryBytes, 'bytes')],
    ['System', machine.platform],
    ['Node', machine.node],
    ['gear-kv', version],
    ['Seed', seed === null ? 'none: nothing was drawn, the examples are the first of their sets' : String(seed)],
    ['Date', date],
    ['Computing time', durationText(seconds)],
  ];
}

/** A column with what has to be known of all of it to write one cell. */
export interface WrittenColumn extends Column {
  /** Figures stand to the right, one above the other. */
  readonly numeric: boolean;
  readonly text: (cell: Cell | undefined) => string;
  readonly isBest: (cell: Cell | undefined) => boolean;
}

/** The columns of a table, ready to be written. */
export function writtenColumns({ columns, rows }: Table): readonly WrittenColumn[] {
  return columns.map((column) => {
    const cells = rows.map((row) => row[column.key]);
    const text = columnText(column.format, cells);
    return { ...column, numeric: isNumeric(cells), text, isBest: bestOf(column, cells, text) };
  });
}

function isNumeric(cells: readonly (Cell | undefined)[]): boolean {
  const there = cells.filter((cell) => cell !== null && cell !== undefined);
  return there.length > 0 && there.every((cell) => typeof cell === 'number');
}

/** Whether a cell is the best of its column; where all are as good, none is. */
function bestOf(
  { better }: Column,
  cells: readonly (Cell | undefined)[],
  text: (cell: Cell | undefined) => string,
): (cell: Cell | undefined) => boolean {
  const numbers = cells.filter((cell): cell is number => Number.isFinite(cell));
  if (better === undefined || numbers.length < 2) return () => false;
  const best = numbers.reduce((a, b) => (better === 'high' ? Math.max(a, b) : Math.min(a, b)));
  // As it is written: a difference that nobody sees makes nobody better.
  const written = text(best);
  if (numbers.every((number) => text(number) === written)) return () => false;
  return (cell) => typeof cell === 'number' && text(cell) === written;
}
