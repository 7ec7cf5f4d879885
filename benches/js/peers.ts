// What this package is compared with and adapts to, installed outside the repository when it is asked for: it is large, and only
// benchmarks and some tests want it.

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Without their install scripts: node-llama-cpp's would compile, onnxruntime-node's would download CUDA. */
const VERSIONS = {
  'node-llama-cpp': '3.22.1',
  'onnxruntime-node': '1.30.0',
  '@huggingface/transformers': '4.3.1',
} as const;

export type Peer = keyof typeof VERSIONS;

/** Installs a peer unless it is there, and returns the folder that it can be required from. */
export function peerFolder(peer: Peer): string {
  const folder = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gear-kv', 'peers');
  const wanted = VERSIONS[peer];
  if (installedVersion(folder, peer) !== wanted) {
    process.stderr.write(`installing ${peer} ${wanted} into ${folder} …\n`);
    mkdirSync(folder, { recursive: true });
    const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
    execFileSync('npm', ['install', '--prefix', folder, ...options, `${peer}@${wanted}`], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
  }
  return folder;
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
