// The proof's tables, in Markdown, as docs/runtimes.md has them.

import { checked, type Target } from '../target.js';
import type { Plan, Seen, Thawed } from './plan.js';

/** What was measured somewhere. */
export interface Proof {
  readonly where: string;
  readonly seen: Seen;
  readonly thawed: readonly Thawed[];
}

const percent = (part: number): string => `${(part * 100).toFixed(1)} %`;
const ms = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

/** Tokens of the answer that are the uncached one's, from the first on. */
export function agreement(one: readonly number[], other: readonly number[]): number {
  const at = one.findIndex((id, index) => id !== other[index]);
  return at === -1 ? one.length : at;
}

/** Rows of everything, side by side. */
export function proofTable({ where, seen, thawed }: Proof, { prompt, cached, answerTokens }: Plan): string {
  const head = [
    where,
    'file',
    'of float16',
    'of float32',
    'freeze',
    'load + thaw',
    'first token',
    'recomputed: × as long',
    `same of ${answerTokens} tokens`,
  ];
  const rows = thawed.map(({ name, answer, loadMs, thawMs, firstTokenMs }) => {
    const { bytes, float16Bytes, freezeMs } = frozenOf(seen, name);
    return [
      name.startsWith('at rest') ? name : `\`${name}\``,
      `${(bytes / 1e6).toFixed(2)} MB`,
      percent(bytes / float16Bytes),
      percent(bytes / float16Bytes / 2),
      `${ms(freezeMs)} ms`,
      `${ms(loadMs)} + ${ms(thawMs)} ms`,
      `${ms(firstTokenMs)} ms`,
      (seen.recomputeMs / firstTokenMs).toFixed(1),
      String(agreement(answer, seen.answer)),
    ];
  });
  const lines = [head, head.map((_, column) => (column === 0 ? '---' : '---:')), ...rows];
  const table = lines.map((line) => `| ${line.join(' | ')} |`).join('\n');
  return `${table}\n\nRecomputing all ${prompt.length} tokens: ${ms(seen.recomputeMs)} ms to the first token; ${cached} of them are in the files.`;
}

/** What was asked of it. */
export function proofTargets({ where, seen, thawed }: Proof): Target[] {
  const of = (name: string) => ({ ...frozenOf(seen, name), ...(thawed.find((row) => row.name === name) as Thawed) });
  const [gear, rest, exact] = [of('gear-4'), of('at rest, 3 bits'), of('uniform-8')];
  const share = (row: { bytes: number; float16Bytes: number }) => (100 * row.bytes) / row.float16Bytes;
  const speed = seen.recomputeMs / gear.firstTokenMs;
  const same = agreement(exact.answer, seen.answer);
  const target = (name: string, asked: number, reached: number, unit: string, atMost: boolean): Target =>
    checked({ target: `${where}: ${name}`, asked, reached, unit, atMost });
  return [
    target('file of gear-4, of float16', 29, share(gear), '%', true),
    target('file at rest, of float16', 20, share(rest), '%', true),
    target('load and thaw, gear-4', 60, gear.loadMs + gear.thawMs, 'ms', true),
    target('first token, gear-4, against recomputing', 8, speed, '×', false),
    target('tokens of uniform-8 as uncached', seen.answer.length, same, 'tokens', false),
  ];
}

function frozenOf({ frozen }: Seen, name: string) {
  const found = frozen.find((row) => row.name === name);
  if (found === undefined) throw new Error(`'${name}' was not frozen`);
  return found;
}
