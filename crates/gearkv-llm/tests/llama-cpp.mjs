// Writes llama-cpp.json: what llama.cpp makes of the tiny models and vocabularies of these tests.
//
//   npm install --prefix FOLDER node-llama-cpp@3.22.1
//   node llama-cpp.mjs FOLDER

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Tokens that the exact models generate; those of quantized weights drift apart by and by. */
const STEPS = 128;
const FEW_STEPS = 8;
/** Probabilities of every so many tokens are kept. */
const STRIDE = 5;

const here = dirname(fileURLToPath(import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'gear-kv-parity-'));

async function evaluate(llama, { file, prompt, exact }) {
  const model = await llama.loadModel({ modelPath: join(folder, file), gpuLayers: 0 });
  const context = await model.createContext({
    contextSize: 256,
    batchSize: 256,
    threads: 1,
    flashAttention: false,
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  });
  const sequence = context.getSequence();
  const next = async (tokens) => {
    const input = tokens.map((token, i) =>
      i === tokens.length - 1 ? [token, { generateNext: { logits: true } }] : token,
    );
    const logits = [...(await sequence.controlledEvaluate(input)).at(-1).next.logits];
    const most = logits[0][1];
    const sum = Math.log(logits.reduce((all, [, logit]) => all + Math.exp(logit - most), 0));
    const rows = logits.map(([token, logit]) => [token, logit - most - sum]).sort(([a], [b]) => a - b);
    const kept = rows.filter(([token]) => token % STRIDE === 0).map(([, x]) => Number(x.toFixed(5)));
    return { greedy: logits[0][0], margin: most - logits[1][1], kept };
  };
  let { greedy, margin, kept } = await next(prompt);
  const first = kept;
  const tokens = [];
  let closest = margin;
  while (tokens.length < (exact ? STEPS : FEW_STEPS)) {
    tokens.push(greedy);
    closest = Math.min(closest, margin);
    ({ greedy, margin, kept } = await next([greedy]));
  }
  await context.dispose();
  await model.dispose();
  return { tokens, closest: Number(closest.toFixed(5)), first, last: kept };
}

async function tokenize(llama, { name, file }, texts) {
  const model = await llama.loadModel({ modelPath: join(folder, file), vocabOnly: true });
  // Qwen's own tokenizer composes characters first; llama.cpp leaves that out.
  const composed = name === 'qwen2' || name === 'deepseek-r1-qwen' ? texts.map((text) => text.normalize('NFC')) : texts;
  const tokens = composed.map((text) => [...model.tokenize(text, true)]);
  const addsBos = model.tokens.shouldPrependBosToken;
  await model.dispose();
  return { addsBos, tokens };
}

try {
  const cargo = ['test', '-p', 'gearkv-llm', '--test', 'llama_cpp', '--', '--ignored', 'write_files'];
  const made = spawnSync('cargo', cargo, { stdio: 'inherit', env: { ...process.env, GEARKV_PARITY_FILES: folder } });
  if (made.status !== 0) throw new Error('the files could not be written');
  const peers = createRequire(join(resolve(process.argv[2]), 'package.json'));
  const { getLlama } = await import(pathToFileURL(peers.resolve('node-llama-cpp')).href);
  const llama = await getLlama({ build: 'never', gpu: false, logLevel: 'error' });
  const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8'));
  const about =
    "By llama-cpp.mjs, with node-llama-cpp 3.22.1 (llama.cpp's release of that version), on the CPU, keys and values in float32. " +
    'tokens: what it chose behind the prompt, the likeliest each time; closest: the least distance of the two largest logits; ' +
    'first, last: log-probabilities of every fifth token behind the prompt and behind the last of the tokens. ' +
    'tokenizers: what it makes of the texts of common/vocabularies.rs, with names of special tokens in them taken as such.';
  const models = {};
  for (const model of index.models) {
    models[model.name] = await evaluate(llama, model);
    console.log(model.name, models[model.name].closest, new Set(models[model.name].tokens).size);
  }
  const tokenizers = {};
  for (const tokenizer of index.tokenizers) tokenizers[tokenizer.name] = await tokenize(llama, tokenizer, index.texts);
  writeFileSync(join(here, 'llama-cpp.json'), `${JSON.stringify({ about, models, tokenizers })}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
