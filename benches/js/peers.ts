// What this package is compared with and adapts to, installed outside the repository when it is asked for: it is large, and only
// benchmarks and some tests want it.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Without their install scripts: node-llama-cpp's would compile, onnxruntime-node's would download CUDA. */
const VERSIONS = {
  'node-llama-cpp': '3.22.1',
  'onnxruntime-node': '1.30.0',
  '@huggingface/transformers': '4.3.1',
  redis: '6.3.1',
} as const;

export type Peer = keyof typeof VERSIONS;

const LOCK_MS = 200;
/** An installation that takes longer was stopped. */
const STALE_MS = 300_000;

/** Installs a peer unless it is there, and returns the folder that it can be required from. */
export function peerFolder(peer: Peer): string {
  const folder = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gear-kv', 'peers');
  if (installedVersion(folder, peer) === VERSIONS[peer]) return folder;
  mkdirSync(folder, { recursive: true });
  alone(join(folder, '.installing'), () => {
    if (installedVersion(folder, peer) !== VERSIONS[peer]) install(folder, peer);
  });
  return folder;
}

function install(folder: string, peer: Peer): void {
  process.stderr.write(`installing ${peer} ${VERSIONS[peer]} into ${folder} …\n`);
  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  // Where there is no network, tests are skipped; by itself npm would think about it for a minute and more.
  const patience = ['--fetch-retries=1', '--fetch-retry-mintimeout=1000', '--fetch-retry-maxtimeout=1000'];
  try {
    execFileSync('npm', ['install', '--prefix', folder, ...options, ...patience, `${peer}@${VERSIONS[peer]}`], {
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    });
  } catch (cause) {
    const stderr = (cause as { stderr?: string }).stderr ?? '';
    const why = /^npm error (?:code \S+|\w*Error: .*)$/m.exec(stderr)?.[0] ?? String(cause);
    throw new Error(`${peer} could not be installed: ${why}`, { cause });
  }
}

/** Test files run side by side, and npm in one folder must not. */
function alone(lock: string, work: () => void): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const since = statSync(lock, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
      if (Date.now() - since > STALE_MS) rmSync(lock, { recursive: true, force: true });
      else Atomics.wait(sleeper, 0, 0, LOCK_MS);
    }
  }
  try {
    work();
  } finally {
    rmSync(lock, { recursive: true, force: true });
  }
}

/** `require`, as seen from where peers are. */
export function requireFrom(folder: string): NodeJS.Require {
  return createRequire(join(folder, 'package.json'));
}

function installedVersion(folder: string, peer: Peer): string | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'node_modules', peer, 'package.json'), 'utf8')).version;
  } catch {
    return undefined;
  }
}
