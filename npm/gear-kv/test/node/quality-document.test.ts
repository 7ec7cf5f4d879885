// docs/quality.md and its plot show what stands in docs/quality.json.

import { readFileSync } from 'node:fs';
import test from 'ava';
import { ablation, methods, type SectionName, sections } from '../../../../benches/js/quality/configurations.js';
import { fingerprint } from '../../../../benches/js/quality/plot.js';
import { docsFile, merged, nothing, readResults } from '../../../../benches/js/quality/results.js';
import { withTables } from '../../../../benches/js/quality/tables.js';

const document = readFileSync(docsFile('quality.md'), 'utf8');
const results = readResults();

test('the tables of docs/quality.md are those of docs/quality.json', (t) => {
  t.is(withTables(document, results), document);
  // Not one of nothing: the presets' figures are really in there.
  const four = results.methods.rows.find(({ name }) => name === 'gear-4');
  t.truthy(four);
  t.true(document.includes(`| **gear-4** | ${four?.bitsPerElement.toFixed(2)} |`));
  t.throws(() => withTables('<!-- table: nonsense -->\n<!-- end -->', results), { message: /nonsense/ });
});

test('the plot of docs/quality.md is of docs/quality.json', (t) => {
  t.true(readFileSync(docsFile('quality.svg'), 'utf8').includes(fingerprint(results)));
  const [first, ...rest] = results.methods.rows;
  const other = { ...results, methods: { rows: [{ ...first, kl: 1 } as typeof first & object, ...rest] } };
  t.not(fingerprint(other), fingerprint(results));
});

test('every row that is to be measured was, and no other', (t) => {
  for (const name of Object.keys(sections) as SectionName[]) {
    t.deepEqual(
      results[name].rows.map((row) => row.name),
      sections[name].rows.map((row) => row.name),
    );
    t.truthy(results[name].baseline);
  }
});

test('a name stands for one configuration', (t) => {
  const seen = new Map<string, unknown>();
  for (const { label: _, series: __, ...configuration } of [...methods, ...ablation.flatMap(({ rows }) => rows)]) {
    t.deepEqual(seen.get(configuration.name) ?? configuration, configuration);
    seen.set(configuration.name, configuration);
  }
});

test('new rows take the place of old ones, in the order of the lists', (t) => {
  const baseline = { perplexity: 20.123456, windows: 1, promptTokens: 2, continuationTokens: 3 };
  const row = { bitsPerElement: 4, decodeBitsPerElement: null, kl: 0.1, top1: 1, perplexity: 20, errors: null };
  const rows = [
    { ...row, name: 'kivi-4' },
    { ...row, name: 'gone' },
  ];
  const before = { ...nothing, methods: { rows } };
  const after = merged(before, 'methods', baseline, [
    { ...row, name: 'kivi-4', kl: 0.2 },
    { ...row, name: 'gear-4', kl: 0.123456789 },
  ]);
  t.deepEqual(
    after.methods.rows.map(({ name, kl }) => [name, kl]),
    [
      ['gear-4', 0.12346],
      ['kivi-4', 0.2],
    ],
  );
  t.is(after.methods.baseline?.perplexity, 20.123);
});
