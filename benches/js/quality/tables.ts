// Tables of docs/quality.md, each between two marks, so that the text around them is written by hand.

import { ablation, type Configuration, methods, type SectionName, sections } from './configurations.js';
import type { Found, Results, SectionResults } from './results.js';

const MARK = /(<!-- table: ([\w-]+) -->\n)[\s\S]*?(<!-- end -->)/g;

/** The document with every table made anew. */
export function withTables(document: string, results: Results): string {
  return document.replaceAll(MARK, (_, begin: string, name: string, end: string) => {
    const table = tableOf(name, results);
    if (table === undefined) throw new Error(`docs/quality.md asks for a table ${name}, which there is not`);
    return `${begin}${table}\n${end}`;
  });
}

function tableOf(name: string, results: Results): string | undefined {
  switch (name) {
    case 'methods':
      return bySize(results.methods);
    case 'second-model':
      return bySize(results.secondModel);
    case 'texts':
      return texts(results);
    case 'ablation':
      return ablation
        .map(({ title, text, rows }) => `### ${title}\n\n${text}\n\n${inOrder(results.ablation, rows)}`)
        .join('\n\n');
    default:
      return undefined;
  }
}

const TITLES: Readonly<Record<SectionName, string>> = {
  methods: 'all methods',
  ablation: 'improvements',
  secondModel: 'second model',
};

/** What was read, and its perplexity on a float16 cache. */
function texts(results: Results): string {
  const lines = (Object.keys(TITLES) as SectionName[]).flatMap((name) => {
    const { baseline } = results[name];
    if (baseline === undefined) return [];
    const { windows, promptTokens, continuationTokens, perplexity } = baseline;
    return [[TITLES[name], sections[name].model, windows, promptTokens, continuationTokens, perplexity.toFixed(2)]];
  });
  const head = ['', 'model', 'texts', 'tokens of a prompt', 'tokens predicted', 'perplexity on float16'];
  return markdown(head, lines);
}

/** All methods, the smallest last. */
function bySize({ rows }: SectionResults): string {
  const known = methods.flatMap(({ name, label }) => {
    const row = rows.find((row) => row.name === name);
    return row === undefined ? [] : [{ label, row }];
  });
  const sorted = known.toSorted((a, b) => b.row.bitsPerElement - a.row.bitsPerElement || a.row.kl - b.row.kl);
  return markdown(
    HEAD,
    sorted.map(({ label, row }) => cells(bold(label), row)),
  );
}

/** Rows of one list, in its order. */
function inOrder({ rows }: SectionResults, list: readonly Configuration[]): string {
  const lines = list.flatMap(({ name, label }) => {
    const row = rows.find((row) => row.name === name);
    return row === undefined ? [] : [cells(label, row)];
  });
  return markdown(HEAD, lines);
}

/** Ours are to be found at a glance. */
const bold = (label: string): string => (/^(gear-|frozen)/.test(label) ? `**${label}**` : label);

const HEAD = ['', 'bits', 'decode bits', 'K error', 'V error', 'attention error', 'KL', 'same token', 'perplexity'];

function cells(label: string, { bitsPerElement, decodeBitsPerElement, errors, kl, top1, perplexity }: Found): string[] {
  const error = (x: number | undefined): string => x?.toFixed(3) ?? '–';
  return [
    label,
    bitsPerElement.toFixed(2),
    decodeBitsPerElement?.toFixed(2) ?? '–',
    error(errors?.key),
    error(errors?.value),
    error(errors?.attention),
    small(kl),
    `${(100 * top1).toFixed(1)} %`,
    perplexity.toFixed(2),
  ];
}

/** Three significant digits, without an exponent. */
function small(x: number): string {
  const places = Math.max(0, 2 - Math.floor(Math.log10(Math.max(x, 1e-6))));
  return x.toFixed(Math.min(7, places));
}

function markdown(head: readonly string[], lines: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'));
  return [line(head), line(rule), ...lines.map(line)].join('\n');
}
