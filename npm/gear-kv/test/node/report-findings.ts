// Findings as experiments make them, and such as nobody hopes for.

import type { Findings, Plot, Table } from '../../src/experiment/report/findings.js';

/** A name that would be markup in a page, in Markdown and in a folder, if anybody let it. */
export const HOSTILE = `</h3><img src=x onerror="alert(1)"><script>alert(2)</script> | **b** [x](javascript:alert(3)) \`c\` ../../x`;

const LONG = `a-${'very-'.repeat(24)}long-name.Q4_K_M.gguf`;
const PRESETS = ['float16', 'gear-4', 'gear-2', 'gear-l-4', 'gear-l-2', 'kivi-4', 'kivi-2', 'uniform-4'];

const accuracy: Table = {
  id: 'accuracy',
  title: 'GSM8k, 8 examples shown, chain of thought',
  note: 'Agreement is with the answers of the float16 cache. KL is of the next token, in nats, over all tokens of the answer.',
  columns: [
    { key: 'preset', heading: 'Cache' },
    { key: 'bits', heading: 'Bits a value', format: { digits: 2 } },
    { key: 'accuracy', heading: 'Accuracy', format: 'percent', better: 'high' },
    { key: 'agreement', heading: 'Same answer', format: 'percent', better: 'high' },
    { key: 'kl', heading: 'KL', format: { digits: 4 }, better: 'low' },
    { key: 'bytes', heading: 'Cache, peak', format: 'bytes', better: 'low' },
    { key: 'seconds', heading: 'Time', format: 'seconds' },
  ],
  rows: PRESETS.map((preset, index) => ({
    preset,
    bits: index === 0 ? 16 : 4.31 - index * 0.19,
    accuracy: 0.432 - index * 0.0123,
    agreement: index === 0 ? null : 0.97 - index * 0.031,
    kl: index === 0 ? null : 0.0012 * 2 ** index,
    bytes: Math.round(31_457_280 / (index + 1)),
    seconds: 75 + index * 31,
  })),
};

const theirs: Table = {
  id: 'paper',
  title: 'LLaMA2-13B, as published',
  source: 'Kang et al., GEAR, Table 1 (https://arxiv.org/abs/2403.05527)',
  columns: [
    { key: 'method', heading: 'Method' },
    { key: 'bits', heading: 'Bits' },
    { key: 'accuracy', heading: 'Accuracy', format: 'percent', better: 'high' },
  ],
  rows: [
    { method: 'a method', bits: 16, accuracy: 0.25 },
    { method: 'another', bits: 4, accuracy: 0.125 },
  ],
};

const many: Table = {
  id: 'layers',
  title: 'Every layer',
  columns: [
    { key: 'layer', heading: 'Layer' },
    ...PRESETS.map((key) => ({ key, heading: key, better: 'low' as const })),
  ],
  rows: Array.from({ length: 40 }, (_, layer) => ({
    layer,
    ...Object.fromEntries(PRESETS.map((preset, index) => [preset, layer === 7 ? null : 0.01 * index + 0.003 * layer])),
  })),
};

const bits = { key: 'bits', title: 'Bits a value' } as const;
const plots: readonly Plot[] = [
  {
    id: 'bits',
    title: 'Accuracy against bits',
    kind: 'line',
    x: bits,
    y: { key: 'accuracy', title: 'Accuracy', format: 'percent' },
    series: 'backbone',
    rows: ['GEAR', 'GEAR-L', 'KIVI', 'uniform', 'rotated', 'float16'].flatMap((backbone, index) =>
      [2, 2.5, 3, 4, 6, 8].map((bits) => ({ backbone, bits, accuracy: 0.45 - (0.05 * (index + 1)) / bits ** 1.2 })),
    ),
  },
  {
    id: 'kl',
    title: 'KL against bits',
    kind: 'line',
    x: bits,
    y: { key: 'kl', title: 'KL (nats)', scale: 'log' },
    series: 'backbone',
    rows: ['GEAR', 'KIVI'].flatMap((backbone, index) =>
      [2, 3, 4, 5, 6, 7, 8].map((bits) => ({
        backbone,
        bits,
        kl: bits === 5 ? null : (0.5 * (index + 1)) / 4 ** bits,
      })),
    ),
  },
  {
    id: 'growth',
    title: 'How the error grows',
    kind: 'line',
    x: { key: 'step', title: 'Decode step' },
    y: { key: 'error', title: 'Relative error', format: 'percent' },
    series: 'preset',
    rows: PRESETS.slice(1).flatMap((preset, index) =>
      Array.from({ length: 120 }, (_, step) => ({ preset, step, error: 0.01 * (index + 1) * Math.sqrt(step + 1) })),
    ),
  },
  {
    id: 'memory',
    title: 'Memory over batch',
    kind: 'line',
    x: { key: 'batch', title: 'Sequences', scale: 'log' },
    y: { key: 'bytes', title: 'Peak memory', format: 'bytes' },
    series: 'preset',
    rows: ['float16', 'gear-4', 'gear-2'].flatMap((preset, index) =>
      [1, 2, 4, 8, 16, 32].map((batch) => ({ preset, batch, bytes: 3e8 + (9e7 * batch) / 3 ** index })),
    ),
  },
  {
    id: 'points',
    title: 'Every preset',
    kind: 'points',
    x: bits,
    y: { key: 'kl', title: 'KL (nats)', scale: 'log' },
    series: 'family',
    label: 'name',
    rows: [
      'gear-4',
      'gear-l-4',
      'gear-2',
      'gear-l-2',
      'kivi-4',
      'kivi-2',
      'uniform-4',
      'uniform-2',
      'kcvt-4',
      'rotated-4',
      'rotated-2',
      'turbo-3',
    ].map((name, index) => ({
      name,
      family: name.split('-')[0] as string,
      bits: (name.endsWith('4') ? 4.4 : 2.4) + (index % 3) * 0.04,
      kl: 0.004 * (1 + (index % 4)) * (name.endsWith('4') ? 1 : 12),
    })),
  },
  {
    id: 'bars',
    title: 'Where the time goes',
    kind: 'bars',
    x: { key: 'preset', title: 'Cache' },
    y: { key: 'seconds', title: 'Time a step', format: 'seconds' },
    series: 'part',
    rows: ['float16', 'gear-4', 'gear-2', 'kivi-2'].flatMap((preset, index) =>
      ['weights', 'attention', 'compression'].map((part, place) => ({
        preset,
        part,
        seconds: 0.004 + 0.003 * Math.abs(place - index),
      })),
    ),
  },
  {
    id: 'sensitivity',
    title: 'Sparsity and rank',
    kind: 'heat-map',
    x: { key: 'rank', title: 'Rank' },
    y: { key: 'sparsity', title: 'Outliers', format: 'percent' },
    value: { key: 'accuracy', title: 'Accuracy', format: 'percent' },
    rows: [0, 0.005, 0.01, 0.02, 0.05].flatMap((sparsity) =>
      [0, 1, 2, 4, 8].map((rank) => ({
        sparsity,
        rank,
        accuracy:
          sparsity === 0.05 && rank === 8
            ? null
            : 0.1 + 0.25 * (1 - Math.exp(-rank / 2)) + 2 * Math.sqrt(sparsity) * 0.3,
      })),
    ),
  },
];

/** What an experiment finds on a good day: every kind of plot, tables wide and long, figures of others. */
export const FULL: Findings = {
  experiment: 'cot',
  title: 'Chain of thought on SmolLM2-135M',
  question: 'Does a compressed cache reason as well as one in float16?',
  summary: [
    'At 4.12 bits a value, gear-4 answers 41.9 % of the questions, float16 43.2 %.',
    'Between 2 and 3 bits GEAR keeps 94 % of the answers of float16; KIVI keeps 71 %.',
  ],
  models: [
    {
      name: 'SmolLM2 135M Instruct',
      file: 'smollm2-135m-instruct-q8_0.gguf',
      bytes: 144_811_904,
      sha256: '5a1395716f7913741cc51d98581b9b1228d80987a9f7d3664106742eb06bba83',
      details: {
        Architecture: 'llama',
        Layers: 30,
        'Query heads': 9,
        'KV heads': 3,
        'Head dimension': 64,
        Weights: 'Q8_0',
        'Chat template': null,
      },
    },
  ],
  data: [
    {
      name: 'GSM8k exemplars',
      licence: 'MIT',
      source: 'lm-eval 0.4.9 (https://pypi.org/project/lm-eval/)',
      examples: 8,
    },
    { name: 'BigBench Hard exemplars', licence: 'Apache-2.0', source: 'lm-eval 0.4.9', examples: 69 },
  ],
  command:
    'gear-kv experiment cot --model smollm2-135m-instruct-q8_0.gguf --preset gear-4,gear-2,kivi-2 --limit 16 --seed 7 --out report',
  seed: 7,
  machine: {
    cpu: 'A Processor @ 2.70GHz',
    cores: 2,
    memoryBytes: 25_000_000_000,
    simd: 'avx512',
    platform: 'linux x64',
    node: 'v20.18.1',
  },
  version: '0.1.0',
  date: '2026-11-26',
  seconds: 4212,
  tables: [accuracy, theirs, many],
  plots,
  remarks: [
    '2 of 1319 lines were no examples and were left out (lines 17 and 400).',
    'One example did not fit the context of 2048 tokens.',
  ],
};

/** Nothing but what must be there. */
export const EMPTY: Findings = {
  ...FULL,
  title: 'Nothing yet',
  summary: [],
  models: [],
  data: [],
  remarks: [],
  tables: [{ ...accuracy, rows: [] }],
  plots: plots.map((plot) => ({ ...plot, rows: [] })),
};

/** One row, and values that are none. */
export const SPARSE: Findings = {
  ...FULL,
  title: 'One row',
  tables: [{ ...accuracy, rows: accuracy.rows.slice(1, 2) }],
  plots: plots.flatMap((plot) => [
    { ...plot, id: `${plot.id}-one`, rows: plot.rows.slice(0, 1) },
    { ...plot, id: `${plot.id}-nulls`, rows: plot.rows.slice(0, 4).map((row) => ({ ...row, [plot.y.key]: null })) },
    {
      ...plot,
      id: `${plot.id}-same`,
      rows: plot.rows.slice(0, 4).map((row) => ({ ...row, [(plot.value ?? plot.y).key]: 0 })),
    },
    {
      ...plot,
      id: `${plot.id}-odd`,
      rows: [...plot.rows.slice(0, 4), { [plot.x.key]: Number.NaN, [plot.y.key]: Number.POSITIVE_INFINITY }, {}],
    },
  ]),
};

/** Names that are too long, and names that are attacks. */
export const HOSTILE_FINDINGS: Findings = {
  ...FULL,
  experiment: HOSTILE,
  title: HOSTILE,
  question: HOSTILE,
  summary: [HOSTILE, LONG],
  models: [
    { name: HOSTILE, file: HOSTILE, bytes: 1, sha256: HOSTILE, details: { [HOSTILE]: HOSTILE } },
    { name: LONG, file: LONG, bytes: 1, details: {} },
  ],
  data: [
    { name: HOSTILE, licence: HOSTILE, source: `https://example.org/"onmouseover="alert(4) ${HOSTILE}`, examples: 1 },
  ],
  command: `gear-kv experiment cot --model '${HOSTILE}' \`\`\`\` ${LONG}`,
  version: HOSTILE,
  date: HOSTILE,
  remarks: [HOSTILE, `${HOSTILE}\n# A heading\n\n- a list`, LONG],
  tables: [
    {
      ...accuracy,
      id: HOSTILE,
      title: HOSTILE,
      note: HOSTILE,
      source: HOSTILE,
      rows: accuracy.rows.map((row, index) => ({ ...row, preset: index === 0 ? HOSTILE : LONG })),
    },
  ],
  plots: plots.map((plot) => ({
    ...plot,
    id: HOSTILE,
    title: HOSTILE,
    x: { ...plot.x, title: HOSTILE },
    y: { ...plot.y, title: HOSTILE },
    rows: plot.rows.map((row) => {
      const named = Object.entries(row).map(([key, value]) => [
        key,
        typeof value === 'string' ? `${HOSTILE} ${value} ${LONG}` : value,
      ]);
      return Object.fromEntries(named);
    }),
  })),
};
