// report.md: what the page says, as GitHub shows it, with the plots as files beside it.

import type { Findings, Table } from './findings.js';
import { heading, oneLine } from './format.js';
import type { Drawing } from './plots.js';
import { dataTable, type Facts, modelFacts, runFacts, writtenColumns } from './sections.js';

/** Text as text: nothing in it is markup, a link or a mention. */
function escaped(text: string): string {
  return atStart(inline(oneLine(text)));
}

/** Text whose addresses are links. */
function linked(text: string): string {
  const parts = oneLine(text).split(/(https?:\/\/[^\s<>"'`|\\[\]()]*[\w/#=])/);
  return atStart(parts.map((part, index) => (index % 2 === 1 ? `<${part}>` : inline(part))).join(''));
}

function inline(text: string): string {
  return text.replace(/[\\`*_{}[\]<>#|~$!^@]/g, '\\$&').replace(/&/g, '&amp;');
}

/** What would begin a list or a line of another kind does not. */
function atStart(text: string): string {
  return text.replace(/^(\d+)([.)])(?=\s|$)/, '$1\\$2').replace(/^[-+=:]/, '\\$&');
}

/** The document; `pictures` has the file of each drawing, in their order. */
export function markdown(
  findings: Findings,
  drawings: readonly Drawing[],
  pictures: readonly (string | undefined)[],
): string {
  const parts = [
    `# ${escaped(findings.title)}`,
    escaped(findings.question),
    bullets(findings.summary),
    ...section('Figures', findings.tables.flatMap(tableSection)),
    ...section(
      'Plots',
      drawings.flatMap((drawing, index) => pictureSection(drawing, pictures[index])),
    ),
    ...section(
      findings.models.length > 1 ? 'Models' : 'Model',
      modelFacts(findings).flatMap(({ name, facts }) => [`### ${escaped(name)}`, factsTable(facts)]),
    ),
    ...section('Data', findings.data.length > 0 ? [table(dataTable(findings))] : []),
    ...section('Machine and run', [factsTable(runFacts(findings))]),
    ...section('The command', [fenced(findings.command)]),
    ...section('Remarks', findings.remarks.length > 0 ? [bullets(findings.remarks)] : []),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function section(text: string, parts: readonly string[]): readonly string[] {
  return parts.length === 0 ? [] : [`## ${text}`, ...parts];
}

function bullets(sentences: readonly string[]): string {
  return sentences.map((sentence) => `- ${linked(sentence)}`).join('\n');
}

function tableSection(one: Table): readonly string[] {
  return [
    `### ${escaped(heading(one.title))}`,
    ...(one.source === undefined ? [] : [`> **Not measured here:** these figures are those of ${linked(one.source)}.`]),
    ...(one.note === undefined ? [] : [linked(one.note)]),
    table(one),
  ];
}

function table(whole: Table): string {
  const columns = writtenColumns(whole);
  if (whole.rows.length === 0 || columns.length === 0) return '*There are no rows.*';
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map((column) => escaped(heading(column.heading)))),
    line(columns.map(({ numeric }) => (numeric ? '---:' : '---'))),
    ...whole.rows.map((row) =>
      line(
        columns.map(({ key, text, isBest }) => {
          const cell = row[key];
          const written = typeof cell === 'string' ? linked(cell) : escaped(text(cell));
          return isBest(cell) ? `**${written}**` : written;
        }),
      ),
    ),
  ].join('\n');
}

function factsTable(facts: Facts): string {
  return [
    '| | |',
    '| --- | --- |',
    ...facts.map(([name, value]) => `| ${escaped(heading(name))} | ${linked(value)} |`),
  ].join('\n');
}

function pictureSection({ title, remark }: Drawing, picture: string | undefined): readonly string[] {
  return [
    `### ${escaped(heading(title))}`,
    ...(picture === undefined ? [] : [`![${escaped(title)}](${picture})`]),
    ...(remark === undefined ? [] : [`*${escaped(remark)}*`]),
  ];
}

/** Between fences that are longer than any in it. */
function fenced(code: string): string {
  const longest = Math.max(2, ...[...code.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  return `${fence}sh\n${code}\n${fence}`;
}
