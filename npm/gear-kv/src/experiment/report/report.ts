import { join } from 'node:path';
import { GearError } from '../../errors.js';
import { writeFileAtomically } from '../../file.js';
import { makeFolder } from '../../folder.js';
import type { Findings } from './findings.js';
import { markdown } from './markdown.js';
import { page } from './page.js';
import { type Drawing, drawings } from './plots.js';

/** Where a report was written. */
export interface Report {
  readonly html: string;
  readonly markdown: string;
  readonly json: string;
}

/**
 * Writes `report.html`, `report.md` with an SVG for each plot beside it, and `report.json` into a folder, which is
 * made where it is absent. Files are written beside their names and moved into place, `report.json` first: it has all that
 * the others are made from.
 */
export async function writeReport(
  directory: string,
  findings: Findings,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<Report> {
  signal?.throwIfAborted();
  await makeFolder(directory).catch((cause: Error) => {
    throw new GearError('IO_FAILED', `${directory} could not be made: ${cause.message}`, { cause });
  });
  const encoder = new TextEncoder();
  const write = async (name: string, text: string): Promise<string> => {
    signal?.throwIfAborted();
    const file = join(directory, name);
    await writeFileAtomically(file, encoder.encode(text));
    return file;
  };
  const json = await write('report.json', `${JSON.stringify(findings, null, 2)}\n`);
  const drawn = await drawings(findings, signal);
  const pictures = pictureNames(drawn);
  for (const [index, { wide }] of drawn.entries()) {
    const name = pictures[index];
    if (wide !== undefined && name !== undefined) await write(name, `${wide}\n`);
  }
  return {
    html: await write('report.html', page(findings, drawn)),
    markdown: await write('report.md', markdown(findings, drawn, pictures)),
    json,
  };
}

/** A file name for each drawing that is a picture: what an id has in letters and digits, and never the same twice. */
function pictureNames(drawn: readonly Drawing[]): readonly (string | undefined)[] {
  const taken = new Set<string>();
  return drawn.map(({ id, wide }) => {
    if (wide === undefined) return undefined;
    const plain =
      id
        .toLowerCase()
        .replace(/[^a-z0-9]+/g, '-')
        .replace(/^-+|-+$/g, '')
        .slice(0, 60) || 'plot';
    let name = `${plain}.svg`;
    for (let number = 2; taken.has(name); number++) name = `${plain}-${number}.svg`;
    taken.add(name);
    return name;
  });
}
