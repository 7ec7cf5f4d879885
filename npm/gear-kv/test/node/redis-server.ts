// A real Redis for tests: the one on the machine, or Debian's package, unpacked into a cache folder, which needs no rights.

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';

/** The server, and libraries that it wants beyond what every Debian has. */
const PACKAGES = ['redis-server', 'redis-tools', 'libjemalloc2', 'liblzf1', 'libatomic1'];

interface Server {
  url: string;
  stop(): Promise<void>;
}

/** The program, and where its libraries are. @throws where there is none and none can be had. */
function redisProgram(): { program: string; libraries?: string } {
  const installed = process.env['REDIS_SERVER_PATH'] ?? 'redis-server';
  if (runs(installed)) return { program: installed };
  const caches = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'gear-kv');
  const folder = join(caches, 'redis');
  const found = () => {
    const libraries = readdirSync(join(folder, 'usr/lib')).find((name) => name.endsWith('-linux-gnu')) ?? '';
    return { program: join(folder, 'usr/bin/redis-server'), libraries: join(folder, 'usr/lib', libraries) };
  };
  try {
    return found();
  } catch {
    // Not unpacked yet.
  }
  mkdirSync(caches, { recursive: true });
  const beside = mkdtempSync(`${folder}-`);
  try {
    execFileSync('apt-get', ['download', ...PACKAGES], { cwd: beside, stdio: ['ignore', 'ignore', 'pipe'] });
    const root = join(beside, 'root');
    for (const name of readdirSync(beside).filter((file) => file.endsWith('.deb'))) {
      execFileSync('dpkg', ['-x', join(beside, name), root], { stdio: ['ignore', 'ignore', 'pipe'] });
    }
    renameSync(root, folder);
  } finally {
    rmSync(beside, { recursive: true, force: true });
  }
  return found();
}

function runs(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).status === 0;
}

/** Starts a server that keeps nothing on the disk. @throws with the reason where there is none. */
export async function startRedis(...options: string[]): Promise<Server> {
  const { program, libraries } = redisProgram();
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-redis-'));
  const socket = join(folder, 'redis.sock');
  const args = ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no', '--dir', folder, ...options];
  const env = { ...process.env, ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) };
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const gone = once(child, 'exit');
  let output = '';
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (/ready to accept connections/i.test(output)) resolve();
      });
    }
    child.on('error', reject).on('exit', (code) => reject(new Error(`redis-server ended with ${code}: ${output}`)));
  });
  return {
    url: socket,
    async stop() {
      child.kill();
      await gone;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
