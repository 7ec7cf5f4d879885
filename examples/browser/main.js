// Questions about one long text, in a browser. The model reads the text once, at the first visit: what it made of it is compressed (gear-4) and kept
// in IndexedDB by a PromptCache, so that every question, also after a reload and with other texts kept beside it, begins behind the text.
//
//   npm install gear-kv @huggingface/transformers
//   npx serve            # any server of files; then open /?model=HuggingFaceTB/SmolLM2-135M-Instruct

import { AutoModelForCausalLM, AutoTokenizer, env, Tensor } from '@huggingface/transformers';
import { IndexedDbStore, PromptCache } from 'gear-kv/store';
import { FrozenPrefix, GearDynamicCache, init } from 'gear-kv/transformers';

const options = new URLSearchParams(location.search);
const MODEL = options.get('model') ?? 'HuggingFaceTB/SmolLM2-135M-Instruct';

const form = document.querySelector('form');
const output = document.querySelector('output');
const note = document.querySelector('#note');

env.backends.onnx.wasm.wasmPaths = new URL('node_modules/onnxruntime-web/dist/', location.href).href;
if (options.has('local'))
  Object.assign(env, { allowLocalModels: true, allowRemoteModels: false, localModelPath: '/', useBrowserCache: false });

/** What the model made of the text: found, or computed and kept. */
async function textRead({ tokenizer, model, prompts, text }) {
  const inputs = tokenizer(text);
  return prompts.through(inputs.input_ids, async () => {
    note.textContent = `The model reads the text: ${inputs.input_ids.size} tokens …`;
    const cache = new GearDynamicCache({ preset: 'gear-4' });
    const tokenIds = await model.generate({ ...inputs, past_key_values: cache, max_new_tokens: 1 });
    const frozen = await cache.freeze({ tokenIds });
    await cache.dispose();
    return frozen;
  });
}

async function ask(question, page) {
  const { tokenizer, model, text } = page;
  const started = performance.now();
  const read = await textRead(page);
  const readMs = performance.now() - started;
  if (read.notKept) console.warn('the text will be read again next time:', read.notKept);

  const frozen = new FrozenPrefix(read.cache, read.about);
  const cache = new GearDynamicCache({ from: frozen, Tensor });
  const kept = frozen.byteLength;
  frozen.dispose();
  const inputs = tokenizer(`${text}\n\nQuestion: ${question}\nAnswer:`);
  const reused = cache.keepPrefixOf(inputs.input_ids);
  const max_new_tokens = Number(options.get('tokens') ?? 64);
  const sequences = await model.generate({ ...inputs, past_key_values: cache, max_new_tokens });
  await cache.dispose();

  const prompt = inputs.input_ids.dims[1];
  output.value = tokenizer.decode(sequences.slice(0, [prompt, null]), { skip_special_tokens: true });
  note.textContent =
    `The text was ${read.computed ? 'read by the model' : 'found in the prompt cache'} in ${(readMs / 1000).toFixed(2)} s, and takes ` +
    `${(kept / 1e6).toFixed(2)} MB there. ${reused} of the prompt's ${prompt} tokens did not have to be computed.`;
}

async function start() {
  const text = (await (await fetch(options.get('text') ?? 'text.txt')).text()).trim();
  document.querySelector('blockquote').textContent = text;
  await init();
  const tokenizer = await AutoTokenizer.from_pretrained(MODEL);
  const model = await AutoModelForCausalLM.from_pretrained(MODEL, { dtype: 'fp32', device: 'wasm' });
  // The name changes with whatever changes keys and values: the weights' type is part of it.
  const prompts = new PromptCache({ store: new IndexedDbStore('prompts'), model: `${MODEL}, fp32`, maxBytes: 2 ** 28 });
  return { tokenizer, model, prompts, text };
}

function enable(isEnabled) {
  for (const control of form.elements) control.disabled = !isEnabled;
}

const page = start();
page.then(
  () => {
    note.textContent = 'The model is loaded.';
    enable(true);
  },
  (error) => {
    note.textContent = `It could not be loaded: ${error.message}`;
  },
);

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const question = form.elements.question.value;
  enable(false);
  output.value = '…';
  await page
    .then((loaded) => ask(question, loaded))
    .catch((error) => {
      output.value = error.message;
    });
  enable(true);
});
