// A chat server on transformers.js that parks idle chats. While somebody talks, a chat's cache is compressed in memory (gear-4); a minute after the
// last word it goes to a file, entropy-coded, and takes no memory at all; at the next word it comes back, and nothing of it is computed again.
//
//   npm install gear-kv @huggingface/transformers
//   node server.mjs
//   curl -d 'Why do people go to sea?' localhost:8080/chats/ishmael
//   curl localhost:8080/chats

import { mkdir, readdir, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { AutoModelForCausalLM, AutoTokenizer, env, Tensor } from '@huggingface/transformers';
import { GearDynamicCache, loadFrozen } from 'gear-kv/transformers';

const MODEL = process.env.MODEL ?? 'HuggingFaceTB/SmolLM2-135M-Instruct';
const PARKED = process.env.PARKED ?? 'parked';
const PARK_AFTER_MS = Number(process.env.PARK_AFTER_MS ?? 60_000);
const MAX_NEW_TOKENS = Number(process.env.MAX_NEW_TOKENS ?? 128);

if (process.env.LOCAL_MODELS !== undefined) Object.assign(env, { allowRemoteModels: false });
await mkdir(PARKED, { recursive: true });
const tokenizer = await AutoTokenizer.from_pretrained(MODEL);
const model = await AutoModelForCausalLM.from_pretrained(MODEL, { dtype: 'fp32' });

/** Chats whose cache is in memory, by name. */
const awake = new Map();

const fileOf = (name) => join(PARKED, `${name}.gear`);

/** A chat is its messages and its cache; both come back from the file. */
async function wake(name) {
  const frozen = await loadFrozen(fileOf(name)).catch((error) => {
    if (error.cause?.code === 'ENOENT') return undefined;
    throw error;
  });
  if (frozen === undefined) return { messages: [], cache: new GearDynamicCache({ preset: 'gear-4' }) };
  const thawed = await frozen.thaw({ preset: 'gear-4' });
  const cache = new GearDynamicCache({ from: thawed, Tensor });
  thawed.dispose();
  frozen.dispose();
  return { messages: frozen.about.metadata.messages, cache };
}

async function park(name) {
  const { messages, cache } = awake.get(name);
  const frozen = await cache.freeze({ model: MODEL, metadata: { messages } });
  const atRest = await frozen.freeze();
  await atRest.save(fileOf(name));
  for (const done of [atRest, frozen]) done.dispose();
  await cache.dispose();
  awake.delete(name);
}

/** Says something in a chat. Returns the answer, and how many of the prompt's tokens were in the cache. */
async function say(name, content) {
  const chat = awake.get(name) ?? (await wake(name));
  awake.set(name, chat);
  clearTimeout(chat.timer);
  const messages = [...chat.messages, { role: 'user', content }];
  const inputs = tokenizer.apply_chat_template(messages, { add_generation_prompt: true, return_dict: true });
  const reused = chat.cache.keepPrefixOf(inputs.input_ids);
  const sequences = await model.generate({ ...inputs, past_key_values: chat.cache, max_new_tokens: MAX_NEW_TOKENS });
  chat.cache.tokenIds = sequences;
  const prompt = inputs.input_ids.dims[1];
  const answer = tokenizer.decode(sequences.slice(0, [prompt, null]), { skip_special_tokens: true });
  chat.messages = [...messages, { role: 'assistant', content: answer }];
  chat.timer = setTimeout(() => queued(() => park(name)).catch(console.error), PARK_AFTER_MS);
  return { answer, reused, prompt };
}

/** One after the other: there is one model, and a chat must not be parked while it answers. */
let queue = Promise.resolve();
function queued(work) {
  const result = queue.then(work);
  queue = result.catch(() => {});
  return result;
}

async function list() {
  const chats = {};
  for (const file of await readdir(PARKED)) {
    if (file.endsWith('.gear'))
      chats[file.slice(0, -5)] = { parked: true, bytes: (await stat(join(PARKED, file))).size };
  }
  for (const [name, { cache }] of awake) chats[name] = { parked: false, bytes: cache.byteLength };
  return chats;
}

const server = createServer(async (request, response) => {
  try {
    // A name becomes a file's.
    const name = /^\/chats\/([\w-]{1,64})$/.exec(request.url)?.[1];
    if (request.method === 'GET' && request.url === '/chats') {
      response.setHeader('content-type', 'application/json').end(JSON.stringify(await queued(list)));
    } else if (request.method === 'POST' && name !== undefined) {
      const content = await text(request);
      const { answer, reused, prompt } = await queued(() => say(name, content));
      response.setHeader('x-tokens-reused', `${reused} of ${prompt}`).end(`${answer}\n`);
    } else {
      response.writeHead(404).end();
    }
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(`${error.message}\n`);
  }
});
server.listen(Number(process.env.PORT ?? 8080), () => console.log(`listening on port ${server.address().port}`));
