// What was measured so far: benches/report/growth.json. A run goes on where the last one ended.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/** One cache at one point. Rates count keys and values as float32, whatever the cache keeps of them. */
export interface PointRow {
  name: string;
  bytes: number;
  /** Taking the whole prompt in. */
  promptMilliseconds: number;
  promptGigabytesPerSecond: number;
  /** One decoding step, with one and with four query heads to a KV head. */
  attend1Milliseconds: number;
  attend1GigabytesPerSecond: number;
  attend4Milliseconds: number;
  attend4GigabytesPerSecond: number;
}

export interface Machine {
  processor: string;
  cores: number;
  instructions: string;
}

export interface GrowthRecord {
  machine: Machine;
  points: Record<string, PointRow[]>;
}

export const REPORT = new URL('../../report/', import.meta.url);
const FILE = fileURLToPath(new URL('growth.json', REPORT));

export function thisMachine(instructions: string, cores: number): Machine {
  return { processor: cpus()[0]?.model ?? 'unknown', cores, instructions };
}

/** What is recorded for this machine, or nothing yet. Figures of two machines do not belong into one plot. */
export function recorded(machine: Machine, fresh: boolean): GrowthRecord {
  if (fresh || !existsSync(FILE)) return { machine, points: {} };
  const record = JSON.parse(readFileSync(FILE, 'utf8')) as GrowthRecord;
  if (JSON.stringify(record.machine) !== JSON.stringify(machine)) {
    throw new Error(
      `${FILE} is of another machine (${JSON.stringify(record.machine)}, this is ${JSON.stringify(machine)}); ` +
        '--fresh measures everything anew, --draw draws what is there',
    );
  }
  return record;
}

/** What is recorded, whichever machine it is of. */
export function lastRecord(): GrowthRecord {
  return JSON.parse(readFileSync(FILE, 'utf8')) as GrowthRecord;
}

export function save(record: GrowthRecord): void {
  mkdirSync(REPORT, { recursive: true });
  writeFileSync(FILE, `${JSON.stringify(record, (_, value) => rounded(value), 2)}\n`);
}

/** Four digits are more than any of these figures is exact to. */
function rounded(value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
}
