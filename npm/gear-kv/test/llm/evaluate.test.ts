// Texts of different lengths, window by window and layer by layer.
import type { EvalTexts } from 'gear-kv/llm';
import { onEachEngine, rejectsWith } from './engines.js';
import { story } from './talking.js';

onEachEngine('evaluate: texts of different lengths, each with its row, and errors of each layer', async (t, model) => {
  const ids = [...model.tokenize(story)];
  const items = [
    { promptTokens: 100, tokenIds: ids.slice(0, 112) },
    { promptTokens: 80, tokenIds: ids.slice(20, 104) },
  ];
  const found = await model.evaluate({ items }, { presets: ['gear-2', 'h2o-0.5'], perWindow: true, layerErrors: true });
  t.deepEqual(
    found.windows?.map(({ promptTokens, continuationTokens }) => [promptTokens, continuationTokens]),
    [
      [100, 11],
      [80, 3],
    ],
  );
  for (const [i, row] of found.rows.entries()) {
    const parts = (found.windows ?? []).map((window) => ({ ...window.rows[i], n: window.continuationTokens }));
    const mean = parts.reduce((sum, { kl = Number.NaN, n }) => sum + kl * n, 0) / 14;
    t.true(row.kl > 0 && Math.abs(row.kl / mean - 1) < 1e-6, `${row.preset}: ${row.kl}, ${mean}`);
    for (const { positionKl, positionSame, n } of parts)
      t.deepEqual([positionKl?.length, positionSame?.length], [n, n]);
  }
  const [gear, h2o] = found.rows;
  t.is(gear?.layers?.length, 30);
  for (const { key, value, attention } of gear?.layers ?? []) {
    t.true([key, value, attention].every((error) => error !== null && error > 0 && error < 1));
  }
  t.is(h2o?.bitsPerElement, 8);
  t.true(h2o?.layers?.every(({ key, value, attention }) => key === null && value === null && attention > 0));
  const plain = await model.evaluate({ items: items.slice(0, 1) }, { presets: ['gear-2'] });
  t.deepEqual([plain.windows, plain.rows[0]?.layers], [undefined, undefined]);
  t.is(plain.rows[0]?.kl, found.windows?.[0]?.rows[0]?.kl);
});

onEachEngine('evaluate refuses texts that are none, by their place', async (t, model) => {
  const presets = ['gear-4' as const];
  const good = { promptTokens: 1, tokenIds: [1, 2, 3] };
  const refused: [unknown, RegExp][] = [
    [[], /windows\.items is/],
    [[good, null], /items\[1\]\.promptTokens/],
    [[{ ...good, promptTokens: 2 }], /items\[0\]\.tokenIds .* at least 4/],
    [[{ ...good, tokenIds: [1, 2, -3] }], /items\[0\]\.tokenIds/],
    [[{ ...good, tokenIds: 'abc' }], /items\[0\]\.tokenIds/],
  ];
  for (const [items, message] of refused) {
    const error = await rejectsWith(t, 'INVALID_OPTION', () => model.evaluate({ items } as EvalTexts, { presets }));
    t.regex(error.message, message);
  }
  for (const option of [{ perWindow: 1 }, { layerErrors: 'yes' }, { perwindow: true }]) {
    await rejectsWith(t, 'INVALID_OPTION', () => model.evaluate({ items: [good] }, { presets, ...option } as never));
  }
  for (const preset of ['h2o-0', 'h2o-2', 'h2o-x']) {
    await rejectsWith(t, 'INVALID_OPTION', () => model.evaluate({ items: [good] }, { presets: [preset as 'h2o-0.5'] }));
  }
});
