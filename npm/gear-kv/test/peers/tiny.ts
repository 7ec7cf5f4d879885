// transformers.js with a model of two layers and no sense, beside this file; both are found without a network once the library is there.

import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { type Peer, peerFolder, requireFrom } from '../../../../benches/js/peers.js';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const VOCABULARY = 64;

/** A test with a library; skipped, with the reason in its title, where it cannot be had. */
export function testWith<Library>(
  peer: Peer,
): (title: string, run: (t: ExecutionContext, library: Library) => Promise<void>) => void {
  try {
    const library = requireFrom(peerFolder(peer))(peer) as Library;
    return (title, run) => test.serial(title, (t) => run(t, library));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return (title) => test.serial.skip(`${title} (skipped: ${reason})`, () => {});
  }
}

/** A folder as transformers.js loads it, with the model in float32 and in float16. */
export function tinyModelFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'gear-kv-tiny-'));
  mkdirSync(join(path, 'onnx'));
  cpSync(join(HERE, 'tiny.onnx'), join(path, 'onnx/model.onnx'));
  cpSync(join(HERE, 'tiny-half.onnx'), join(path, 'onnx/model_fp16.onnx'));
  const words = Object.fromEntries(Array.from({ length: VOCABULARY }, (_, id) => [id === 0 ? '<unk>' : `w${id}`, id]));
  const files = {
    'config.json': {
      model_type: 'llama',
      architectures: ['LlamaForCausalLM'],
      hidden_size: 64,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      vocab_size: VOCABULARY,
      max_position_embeddings: 256,
    },
    'generation_config.json': {},
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: 'WhitespaceSplit' },
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', vocab: words, unk_token: '<unk>' },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizer',
      unk_token: '<unk>',
      pad_token: '<unk>',
      chat_template: "{% for message in messages %}{{ message['role'] }} {{ message['content'] }} {% endfor %}",
    },
  };
  for (const [name, content] of Object.entries(files)) writeFileSync(join(path, name), JSON.stringify(content));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** A prompt. */
export function promptOf(length: number, seed = 1): number[] {
  return Array.from({ length }, (_, index) => 1 + ((index * index * 7 + index * seed + seed) % (VOCABULARY - 1)));
}
