// report.html: one file that asks nobody for anything.

import { createHash } from 'node:crypto';
import type { Cell, Findings, Table } from './findings.js';
import { heading, NOTHING, oneLine } from './format.js';
import { STYLE } from './page-style.js';
import type { Drawing } from './plots.js';
import { dataTable, type Facts, modelFacts, runFacts, type WrittenColumn, writtenColumns } from './sections.js';

/** Copies the command; where the clipboard is closed to the page, it is at least selected. */
const SCRIPT = `for (const button of document.querySelectorAll('button')) {
  button.hidden = false;
  button.addEventListener('click', async () => {
    const code = button.parentElement.querySelector('code');
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = 'Selected';
    }
    setTimeout(() => { button.textContent = 'Copy'; }, 2000);
  });
}`;

const ENTITIES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

/** Text as text, in an element or in a quoted attribute. */
function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

/** Text on one line, its addresses as links. */
function linked(text: string): string {
  return oneLine(text)
    .split(/(https?:\/\/[^\s<>"'`|\\]*[\w/#=])/)
    .map((part, index) => (index % 2 === 1 ? `<a href="${escaped(part)}">${escaped(part)}</a>` : escaped(part)))
    .join('');
}

/** The page, and the plots in it as they were drawn. */
export function page(findings: Findings, drawings: readonly Drawing[]): string {
  const title = oneLine(findings.title);
  const sections = [
    section('Figures', findings.tables.map(tableSection)),
    section('Plots', drawings.map(figure)),
    section(
      findings.models.length > 1 ? 'Models' : 'Model',
      modelFacts(findings).map(({ name, facts }) => `<h3>${escaped(oneLine(name))}</h3>${list(facts)}`),
    ),
    section('Data', findings.data.length > 0 ? [tableElement(dataTable(findings))] : []),
    section('Machine and run', [list(runFacts(findings))]),
    section('The command', [
      `<div class="command"><pre><code>${command(findings.command)}</code></pre><button type="button" hidden>Copy</button></div>`,
    ]),
    section(
      'Remarks',
      findings.remarks.length > 0
        ? [`<ul>${findings.remarks.map((remark) => `<li>${linked(remark)}</li>`).join('')}</ul>`]
        : [],
    ),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src '${digest(SCRIPT)}'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="gear-kv ${escaped(oneLine(findings.version))}">
<link rel="icon" href="data:,">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<p class="kind"><code>gear-kv experiment ${escaped(oneLine(findings.experiment))}</code> · ${escaped(oneLine(findings.date))}</p>
<h1>${escaped(title)}</h1>
<p class="question">${escaped(oneLine(findings.question))}</p>
${findings.summary.length > 0 ? `<ul class="summary">${findings.summary.map((sentence) => `<li>${linked(sentence)}</li>`).join('\n')}</ul>` : ''}
</header>
<main>
${sections.filter((text) => text !== '').join('\n')}
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;
}

function section(heading: string, parts: readonly string[]): string {
  return parts.length === 0 ? '' : `<section>\n<h2>${heading}</h2>\n${parts.join('\n')}\n</section>`;
}

function tableSection(table: Table): string {
  const theirs = table.source !== undefined;
  const badge = theirs ? '<span class="badge">not measured here</span>' : '';
  return `<div${theirs ? ' class="theirs"' : ''}>
<h3>${escaped(heading(table.title))}${badge}</h3>
${table.source === undefined ? '' : `<p>These figures are those of ${linked(table.source)}.</p>\n`}${table.note === undefined ? '' : `<p class="note">${linked(table.note)}</p>\n`}${tableElement(table)}
</div>`;
}

function tableElement(table: Table): string {
  const columns = writtenColumns(table);
  const head = columns.map(headCell).join('');
  const body = table.rows.map(
    (row) => `<tr>${columns.map((column, index) => bodyCell(row[column.key], column, index === 0)).join('')}</tr>`,
  );
  const span = Math.max(columns.length, 1);
  if (body.length === 0) body.push(`<tr><td class="none" colspan="${span}">There are no rows.</td></tr>`);
  // Who scrolls with the keyboard must be able to get there.
  return `<div class="scroll" tabindex="0" role="region" aria-label="${escaped(oneLine(table.title))}">
<table>
<thead><tr>${head}</tr></thead>
<tbody>
${body.join('\n')}
</tbody>
</table>
</div>`;
}

function headCell(column: WrittenColumn): string {
  return `<th scope="col" class="${column.numeric ? 'figure' : 'words'}">${escaped(heading(column.heading))}</th>`;
}

function bodyCell(cell: Cell | undefined, { numeric, text, isBest }: WrittenColumn, isFirst: boolean): string {
  const written = text(cell);
  const classes = [
    numeric ? 'figure' : 'words',
    ...(isName(cell) ? ['name'] : []),
    ...(isBest(cell) ? ['best'] : []),
    ...(written === NOTHING ? ['none'] : []),
  ];
  const element = isFirst ? 'th scope="row"' : 'td';
  const content = typeof cell === 'string' ? linked(cell) : escaped(written);
  return `<${element} class="${classes.join(' ')}">${content}</${isFirst ? 'th' : 'td'}>`;
}

/** A short name, such as a cache's, is not broken behind its hyphens. */
function isName(cell: Cell | undefined): boolean {
  return typeof cell === 'string' && /^\S{1,24}$/.test(cell);
}

function figure({ title, wide, narrow, remark }: Drawing): string {
  const pictures =
    wide === undefined || narrow === undefined
      ? ''
      : `<div class="wide">${wide}</div><div class="narrow">${narrow}</div>`;
  return `<figure>
<figcaption>${escaped(heading(title))}</figcaption>
${pictures}${remark === undefined ? '' : `<p class="note">${escaped(remark)}</p>`}
</figure>`;
}

/** Its words stay whole where lines are long enough for them: `--limit` is not broken behind its first hyphen. */
function command(text: string): string {
  return text.replace(/\S+|\s+/g, (part) => (/\s/.test(part) ? part : `<span>${escaped(part)}</span>`));
}

function list(facts: Facts): string {
  return `<dl>${facts.map(([name, value]) => `<dt>${escaped(heading(name))}</dt><dd>${linked(value)}</dd>`).join('\n')}</dl>`;
}

function digest(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
