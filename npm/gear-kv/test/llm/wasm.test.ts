// The engine's WebAssembly module computes what the native one does.
import { readFileSync } from 'node:fs';
import type { Message } from 'gear-kv/llm';
import { model, modelPath, story, withModel } from './talking.js';

const dist = new URL('../../dist/', import.meta.url);
const question: Message[] = [
  { role: 'user', content: `${story}\n\nWho climbed the steps, and what was written down?` },
];

withModel('a model in WebAssembly predicts and says what it does natively', async (t) => {
  const bundle: string = new URL('llm.web.js', dist).href;
  const web = (await import(bundle)) as typeof import('../../src/llm.web.js');
  await web.default(readFileSync(new URL('wasm-llm/gearkv_wasm_llm_bg.wasm', dist)));
  const [native, wasm] = [await model(), await web.GearModel.load(readFileSync(modelPath as string))];
  // Weights are multiplied as integers there. A last digit that differs lets a compressed value round the other way.
  const tolerances = { float16: 1e-3, 'gear-4': 1e-2 } as const;
  for (const cache of ['float16', 'gear-4'] as const) {
    const [expected, found] = [
      (await native.perplexity(story, { cache })).perplexity,
      (await wasm.perplexity(story, { cache })).perplexity,
    ];
    t.true(Math.abs(found / expected - 1) < tolerances[cache], `${cache}: ${found}, natively ${expected}`);
    using there = native.session({ cache });
    using here = wasm.session({ cache });
    const answer = await here.generate(question, { maxTokens: 24 }).text();
    t.is(answer, await there.generate(question, { maxTokens: 24 }).text(), cache);
    t.true(answer.length > 10);
  }
  wasm.dispose();
});
