/** A column: its heading, and on which side its cells are lined up. */
export interface Column {
  heading: string;
  align?: 'left' | 'right';
}

/** Rows of cells under headings, lined up with spaces. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ heading }, column) =>
    Math.max(heading.length, ...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align = 'right' }, column) => {
        const cell = cells[column] ?? '';
        const width = widths[column] ?? 0;
        return align === 'left' ? cell.padEnd(width) : cell.padStart(width);
      })
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('  ');
  return `${[line(columns.map(({ heading }) => heading)), rule, ...rows.map(line)].join('\n')}\n`;
}

/** A count of bytes in the unit that fits. */
export function bytesText(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(2)} MB`;
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
