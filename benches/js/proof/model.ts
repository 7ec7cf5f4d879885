// SmolLM2-135M as transformers.js takes it: built once from the GGUF file, kept outside the repository.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fetchModel } from 'gear-kv/llm';

const CACHE = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gear-kv');
const PYTHON_PACKAGES = ['numpy==2.4.6', 'onnx==1.23.2', 'gguf==0.19.0'];

/** The folder of the model in ONNX. Building it takes Python, a minute, and three packages of PyPI. */
export async function onnxModelFolder(say: (text: string) => void): Promise<string> {
  const folder = join(CACHE, 'models', 'SmolLM2-135M-Instruct-onnx');
  if (existsSync(join(folder, 'config.json'))) return folder;
  const gguf = await fetchModel();
  const tools = join(CACHE, 'onnx-tools');
  const python = join(tools, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: ['ignore', 2, 'inherit'] });
  try {
    run(python, '-c', 'import numpy, onnx, gguf');
  } catch {
    say('installing what builds the ONNX model …\n');
    run(process.env['PYTHON'] ?? 'python3', '-m', 'venv', tools);
    run(python, '-m', 'pip', 'install', '--quiet', ...PYTHON_PACKAGES);
  }
  say('building the ONNX model …\n');
  const beside = `${folder}.${process.pid}`;
  mkdirSync(beside, { recursive: true });
  run(python, fileURLToPath(new URL('./build-onnx.py', import.meta.url)), gguf, beside);
  rmSync(folder, { recursive: true, force: true });
  renameSync(beside, folder);
  return folder;
}
