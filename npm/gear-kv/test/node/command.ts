import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const packageFolder = fileURLToPath(new URL('../../', import.meta.url));
export const repository = fileURLToPath(new URL('../../../../', import.meta.url));
export const modelFile = join(repository, 'fixtures/kv_smollm2_135m.safetensors');

export interface Ran {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end. */
export function ran(
  program: string,
  args: readonly string[],
  options: { cwd?: string; env?: object } = {},
): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, GEARKV_BACKEND: '', ...options.env };
    const child = spawn(program, args, { cwd: options.cwd ?? packageFolder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.on('error', reject).on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** Runs the command as it ships. */
export function gearKv(...args: string[]): Promise<Ran> {
  return ran(process.execPath, [join(packageFolder, 'dist/cli.js'), ...args]);
}

const folders: string[] = [];
process.on('exit', () => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A folder that nobody else uses, gone after the run. */
export function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-test-'));
  folders.push(folder);
  return folder;
}
