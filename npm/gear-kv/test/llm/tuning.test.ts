// Bits for each layer, found by trying.
import { tunedCache } from 'gear-kv/llm';
import { onEachEngine, rejectsWith } from './engines.js';
import { story } from './talking.js';

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

onEachEngine('each half of each layer is tried, and the bits that are found add up to none', async (t, model) => {
  const ids = [...model.tokenize(story)].slice(0, 90);
  const windows = { promptTokens: 80, continuationTokens: 4, tokenIds: [ids] };
  const seen: string[] = [];
  const found = await model.tuneLayers({
    cache: 'gear-2',
    windows,
    onProgress: ({ stage, done, total }) => void seen.push(`${stage} ${done}/${total}`),
  });
  t.is(seen.at(-1), 'trying 61/61');
  for (const { layerBits, kl } of [found.key, found.value]) {
    t.deepEqual([layerBits.length, kl.length, sum(layerBits)], [30, 30, 0]);
    t.true(kl.every((kl) => kl >= 0 && Number.isFinite(kl)) && sum(kl) > 0);
    // More where more is lost.
    const order = [...kl.keys()].sort((a, b) => (kl[a] ?? 0) - (kl[b] ?? 0));
    const [least = 0, most = 0] = [order[0], order.at(-1)].map((layer) => layerBits[layer as number]);
    t.true(least < 0 && most > 0, `${least} and ${most} bits`);
  }
  const cache = tunedCache('gear-2', found);
  const { rows } = await model.evaluate(windows, { presets: ['gear-2', { name: 'gear-2 tuned', cache }] });
  t.deepEqual(
    rows.map(({ preset }) => preset),
    ['gear-2', 'gear-2 tuned'],
  );
  t.true(Math.abs((rows[1]?.bitsPerElement ?? 0) / (rows[0]?.bitsPerElement ?? 1) - 1) < 0.02);
});

onEachEngine('trying is stopped by its signal, and refuses what it does not know', async (t, model) => {
  const reason = new Error('enough');
  const ids = [...model.tokenize(story)].slice(0, 90);
  const windows = { promptTokens: 80, continuationTokens: 4, tokenIds: [ids] };
  const controller = new AbortController();
  const stopped = model.tuneLayers({ windows, signal: controller.signal });
  controller.abort(reason);
  t.is(await t.throwsAsync(stopped), reason);
  await rejectsWith(t, 'INVALID_OPTION', () => model.tuneLayers({ text: 'x' } as never));
  await rejectsWith(t, 'INVALID_OPTION', () => model.tuneLayers({ windows: {} as never }));
  await rejectsWith(t, 'INVALID_OPTION', () => model.tuneLayers({ windows: { ...windows, promptTokens: 40 } }));
  await rejectsWith(t, 'INVALID_OPTION', () =>
    model.evaluate(windows, { presets: [{ name: 'x', cache: 'gear-9' }] as never }),
  );
});
