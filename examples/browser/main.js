// Questions about one long text, in a browser. The first question makes the model read the text; what it made of it is compressed (gear-4) and kept in
// the origin's private file system, so that every later question, also after a reload, begins behind the text.
//
//   npm install gear-kv @huggingface/transformers
//   npx serve            # any server of files; then open /?model=HuggingFaceTB/SmolLM2-135M-Instruct

import { AutoModelForCausalLM, AutoTokenizer, env, Tensor } from '@huggingface/transformers';
import { GearDynamicCache, init, loadFrozen } from 'gear-kv/transformers';

const options = new URLSearchParams(location.search);
const MODEL = options.get('model') ?? 'HuggingFaceTB/SmolLM2-135M-Instruct';
const TEXT = await (await fetch(options.get('text') ?? 'text.txt')).text();
const FILE = 'text.gear';

/** The cache of the text, if it was kept and is of this model. */
async function remembered(folder) {
  try {
    const file = await (await folder.getFileHandle(FILE)).getFile();
    const frozen = await loadFrozen(await file.arrayBuffer());
    return frozen.model === MODEL ? frozen : undefined;
  } catch (error) {
    if (error.name === 'NotFoundError') return undefined;
    throw error;
  }
}

async function remember(folder, frozen) {
  const file = await folder.getFileHandle(FILE, { create: true });
  // What is written is in place when the stream closes, and not before.
  await frozen.toStream().pipeTo(await file.createWritable());
}

const form = document.querySelector('form');
const output = document.querySelector('output');
await init();
env.backends.onnx.wasm.wasmPaths = new URL('node_modules/onnxruntime-web/dist/', location.href).href;
if (options.has('local'))
  Object.assign(env, { allowLocalModels: true, allowRemoteModels: false, localModelPath: '/', useBrowserCache: false });
const tokenizer = await AutoTokenizer.from_pretrained(MODEL);
const model = await AutoModelForCausalLM.from_pretrained(MODEL, { dtype: 'fp32', device: 'wasm' });
const folder = await navigator.storage.getDirectory();

async function ask(question) {
  const inputs = tokenizer(`${TEXT}\n\nQuestion: ${question}\nAnswer:`);
  const frozen = await remembered(folder);
  const cache = frozen ? new GearDynamicCache({ from: frozen, Tensor }) : new GearDynamicCache({ preset: 'gear-4' });
  frozen?.dispose();
  const reused = cache.keepPrefixOf(inputs.input_ids);
  const sequences = await model.generate({
    ...inputs,
    past_key_values: cache,
    max_new_tokens: Number(options.get('tokens') ?? 64),
  });
  const prompt = inputs.input_ids.dims[1];
  output.value = tokenizer.decode(sequences.slice(0, [prompt, null]), { skip_special_tokens: true });
  document.querySelector('#reused').textContent = `${reused} of the prompt's ${prompt} tokens were in the cache.`;
  if (frozen === undefined) {
    cache.tokenIds = sequences;
    const whole = await cache.freeze({ model: MODEL });
    await remember(folder, whole);
    whole.dispose();
  }
  await cache.dispose();
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const controls = [...form.elements];
  for (const control of controls) control.disabled = true;
  output.value = '…';
  await ask(form.elements.question.value).catch((error) => {
    output.value = error.message;
  });
  for (const control of controls) control.disabled = false;
});
for (const control of form.elements) control.disabled = false;
output.value = '';
