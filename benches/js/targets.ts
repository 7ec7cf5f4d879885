// What was asked of the package, what this run reached, and what would be the most: all three from the same run.

import type { Measured, Row } from './measure.js';
import { FLOAT16, FLOAT32 } from './suites/attend.js';
import { COPY } from './suites/codec.js';
import { rowName } from './suites/context.js';
import type { DecodeMeasured } from './suites/decode.js';
import { checked, type Target } from './target.js';

export interface Results {
  measured: readonly Measured[];
  decode: DecodeMeasured | undefined;
  /** Of the codec's WebAssembly module. */
  wasmGzipBytes: number;
}

interface AttendTarget {
  suite: string;
  preset: string;
  float32: number;
  float16: number;
}

const ATTEND: readonly AttendTarget[] = ['attend', 'attend-small'].flatMap((suite) => [
  ...['gear-4', 'gear-l-4'].flatMap((preset) => [
    { suite, preset, float32: 5, float16: 2.8 },
    { suite: `${suite}-gqa`, preset, float32: 4, float16: 2.2 },
  ]),
  { suite, preset: 'gear-2', float32: 8, float16: 4.5 },
]);
const WASM_OF_NATIVE = 1 / 3;
const WASM_KILOBYTES = 150;
const MEMORY = 0.75;

/** Targets of everything that was run. */
export function targets({ measured, decode, wasmGzipBytes }: Results): Target[] {
  const row = (suite: string, name: string): Row | undefined =>
    measured.find((one) => one.name === suite)?.rows.find((one) => one.name === name);
  return [
    ...ATTEND.flatMap((asked) => attendTargets(asked, row)),
    ...ratio(row, 'prefill', rowName('gear-4', 'native'), FLOAT32, {
      target: 'a prompt of 256 queries: gear-4, times as fast as float32',
      asked: 1,
    }),
    ...codecTargets(row),
    ...(['attend', 'compress-keys', 'compress-values'] as const).flatMap((suite) =>
      ratio(row, suite, rowName('gear-4', 'wasm'), rowName('gear-4', 'native'), {
        target: `${suite}: gear-4, WebAssembly's part of native speed`,
        asked: WASM_OF_NATIVE,
      }),
    ),
    ...(decode === undefined ? [] : decodeTargets(decode)),
    checked({
      target: 'the WebAssembly module, gzipped',
      asked: WASM_KILOBYTES,
      atMost: true,
      unit: 'kB',
      reached: wasmGzipBytes / 1e3,
    }),
  ];
}

type Find = (suite: string, name: string) => Row | undefined;

/** Bound: the compressed cache, read at the rate at which the one that it is compared with is. */
function attendTargets({ suite, preset, ...asked }: AttendTarget, row: Find): Target[] {
  const ours = row(suite, rowName(preset, 'native'));
  return (['float32', 'float16'] as const).flatMap((name) => {
    const base = row(suite, name === 'float32' ? FLOAT32 : FLOAT16);
    if (ours?.bytes === undefined || base?.bytes === undefined) return [];
    const rates = [ours, base].map((one) => one.gigabytesPerSecond as number) as [number, number];
    return checked({
      target: `${suite}: ${preset}, times as fast as ${name}`,
      asked: asked[name],
      unit: 'x',
      reached: base.milliseconds / ours.milliseconds,
      bound: base.bytes / ours.bytes,
      boundBy: `its bytes at the ${rates[1].toFixed(1)} GB/s of ${name}; it reads ${rates[0].toFixed(1)}: ${limit(...rates)}`,
    });
  });
}

/** What keeps a row from being faster: at three quarters of another's rate or more it is memory, as with that one. */
function limit(rate: number, other: number): string {
  return rate >= MEMORY * other ? 'memory' : 'arithmetic';
}

function ratio(row: Find, suite: string, one: string, other: string, asked: { target: string; asked: number }) {
  const [ours, base] = [row(suite, one), row(suite, other)];
  if (ours === undefined || base === undefined) return [];
  return [checked({ ...asked, unit: 'x', reached: base.milliseconds / ours.milliseconds })];
}

function codecTargets(row: Find): Target[] {
  return ['keys', 'values'].flatMap((role) => {
    const copy = row(`compress-${role}`, COPY)?.gigabytesPerSecond;
    const rates = [
      { preset: 'kivi-4', asked: 4 },
      { preset: 'gear-4', asked: 0.7 },
    ].flatMap(({ preset, asked }) => {
      const reached = row(`compress-${role}`, rowName(preset, 'native'))?.gigabytesPerSecond;
      if (reached === undefined || copy === undefined) return [];
      const bound = { bound: copy, boundBy: 'memcpy of what it reads' };
      return [checked({ target: `compress-${role}: ${preset}, of float32`, asked, unit: 'GB/s', reached, ...bound })];
    });
    const decompressed = ['kivi-4', 'gear-4'].flatMap((preset) =>
      ratio(row, `decompress-${role}`, rowName(preset, 'native'), COPY, {
        target: `decompress-${role}: ${preset}, times as fast as memcpy of what it writes`,
        asked: 0.7,
      }),
    );
    return [...rates, ...decompressed];
  });
}

function decodeTargets({ rows }: DecodeMeasured): Target[] {
  return ['gear-4', 'gear-2', 'kivi-4'].flatMap((preset) => {
    const row = rows.find(({ name }) => name === rowName(preset, 'native'));
    if (row === undefined) return [];
    return [
      checked({
        target: `decode: ${preset}, append's part of attend`,
        asked: 5,
        atMost: true,
        unit: '%',
        reached: row.appendShare * 100,
      }),
      checked({
        target: `decode: ${preset}, the slowest step over the median`,
        asked: 10,
        atMost: true,
        unit: 'x',
        reached: row.worstOverMedian,
      }),
    ];
  });
}
