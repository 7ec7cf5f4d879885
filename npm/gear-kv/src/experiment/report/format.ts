// How a figure is written: the same in the page, in the Markdown and in the fields of a heat map.

import type { Cell, Column } from './findings.js';

type Format = Column['format'];

/** What stands where there is no figure. */
export const NOTHING = '–';

/** A unit: what one of it is, and how it is written. */
export interface Unit {
  readonly size: number;
  readonly name: string;
}

const ONE: Unit = { size: 1, name: '' };
const PERCENT: Unit = { size: 0.01, name: '%' };
const BYTES: readonly Unit[] = [
  { size: 1, name: 'B' },
  { size: 1e3, name: 'kB' },
  { size: 1e6, name: 'MB' },
  { size: 1e9, name: 'GB' },
  { size: 1e12, name: 'TB' },
];
const SECONDS: readonly Unit[] = [
  { size: 1e-6, name: 'µs' },
  { size: 1e-3, name: 'ms' },
  { size: 1, name: 's' },
  { size: 60, name: 'min' },
  { size: 3600, name: 'h' },
];
const SIGNIFICANT = 4;

/** The unit in which figures up to `largest` are read most easily. */
export function unitOf(format: Format, largest: number): Unit {
  if (format === 'percent') return PERCENT;
  if (format !== 'bytes' && format !== 'seconds') return ONE;
  const units = format === 'bytes' ? BYTES : SECONDS;
  const whole = format === 'bytes' ? (units[0] as Unit) : (units[2] as Unit);
  if (largest === 0) return whole;
  // 90 seconds stay seconds: minutes are for what takes several.
  return units.findLast(({ size, name }) => largest >= (name === 'min' ? 2 * size : size)) ?? (units[0] as Unit);
}

/** A cell as text, on one line. */
export function cellText(cell: Cell | undefined, format?: Format): string {
  if (cell === null || cell === undefined) return NOTHING;
  if (typeof cell === 'string') return oneLine(cell);
  if (Number.isNaN(cell)) return NOTHING;
  if (!Number.isFinite(cell)) return cell > 0 ? '∞' : '−∞';
  if (typeof format === 'object') return signed(cell.toFixed(Math.min(Math.max(Math.trunc(format.digits), 0), 20)));
  const unit = unitOf(format, Math.abs(cell));
  const value = cell / unit.size;
  if (format === undefined) return signed(significant(value));
  const digits = format === 'percent' ? 1 : unit.size === 1 && format === 'bytes' ? 0 : Math.abs(value) < 100 ? 2 : 1;
  return `${signed(value.toFixed(digits))} ${unit.name}`;
}

/** How the cells of one column are written: figures of one kind in one unit, and to as many places, where that loses none of them. */
export function columnText(format: Format, cells: readonly (Cell | undefined)[]): (cell: Cell | undefined) => string {
  const sizes = cells.filter((cell): cell is number => Number.isFinite(cell) && cell !== 0).map(Math.abs);
  const alone = (cell: Cell | undefined): string => cellText(cell, format);
  if (sizes.length === 0 || format === 'percent' || typeof format === 'object') return alone;
  const least = sizes.reduce((a, b) => Math.min(a, b));
  const most = sizes.reduce((a, b) => Math.max(a, b));
  const unit = unitOf(format, most);
  if (format === undefined && sizes.every(Number.isInteger)) return alone;
  const digits = Math.max(
    0,
    SIGNIFICANT - 1 - Math.floor(Math.log10(most / unit.size)) - (format === undefined ? 0 : 1),
  );
  // Two places of the least that is there are still to be seen.
  if (digits > 8 || least / unit.size < 10 ** (1 - digits)) return alone;
  return (cell) => {
    if (typeof cell !== 'number' || !Number.isFinite(cell)) return alone(cell);
    return `${cellText(cell / unit.size, { digits })}${unit.name === '' ? '' : ` ${unit.name}`}`;
  };
}

/** Whole numbers as they are; others to four places that count. */
function significant(value: number): string {
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value);
  if (value !== 0 && Math.abs(value) < 1e-4) return value.toExponential(SIGNIFICANT - 2);
  return String(Number(value.toPrecision(SIGNIFICANT)));
}

/** With a minus that is as wide as a plus, and none before a zero. */
function signed(text: string): string {
  if (!text.startsWith('-')) return text;
  return Number(text) === 0 ? text.slice(1) : `−${text.slice(1)}`;
}

/** How long something took, in words. */
export function durationText(seconds: number): string {
  if (seconds < 120) return cellText(seconds, { digits: seconds < 10 ? 1 : 0 }).concat(' s');
  const minutes = Math.round(seconds / 60);
  return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A heading with a capital, unless it begins with a name: with a digit, a hyphen or a capital in its first word, or a symbol. */
export function heading(text: string): string {
  const line = oneLine(text);
  return /^\p{Ll}{2,}(?![\p{L}\p{N}_./-])/u.test(line) ? `${line[0]?.toUpperCase()}${line.slice(1)}` : line;
}

/** Text from outside on one line, without characters that steer a terminal or the direction of writing. */
export function oneLine(text: string): string {
  return text
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\u202A-\u202E\u2066-\u2069]+/gu, ' ')
    .replace(/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/g, '\uFFFD')
    .trim();
}
