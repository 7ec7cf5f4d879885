// What stands in a report beside tables and plots, in an order that the page and the Markdown share.

import type { Cell, Column, Findings, Table } from './findings.js';
import { cellText, durationText } from './format.js';

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
    ['Cores', `${machine.cores} (${machine.threads} used)`],
    ...(machine.simd === undefined ? [] : [['Instructions', machine.simd] as const]),
    ['Memory', cellText(machine.memoryBytes, 'bytes')],
    ['System', machine.platform],
    ['Node', machine.node],
    ['gear-kv', version],
    ['Seed', String(seed)],
    ['Date', date],
    ['Computing time', durationText(seconds)],
  ];
}

/** True where a column holds figures alone: those stand to the right, one above the other. */
export function isNumeric({ key }: Column, rows: Table['rows']): boolean {
  const cells = rows.map((row) => row[key] ?? null).filter((cell) => cell !== null);
  return cells.length > 0 && cells.every((cell) => typeof cell === 'number');
}

/** Whether a cell is the best of its column; where all are as good, none is. */
export function bestOf({ key, better, format }: Column, rows: Table['rows']): (cell: Cell | undefined) => boolean {
  const numbers = rows.map((row) => row[key]).filter((cell): cell is number => Number.isFinite(cell));
  if (better === undefined || numbers.length < 2) return () => false;
  const best = numbers.reduce((a, b) => (better === 'high' ? Math.max(a, b) : Math.min(a, b)));
  // As it is written: a difference that nobody sees makes nobody better.
  const written = cellText(best, format);
  if (numbers.every((number) => cellText(number, format) === written)) return () => false;
  return (cell) => typeof cell === 'number' && cellText(cell, format) === written;
}
