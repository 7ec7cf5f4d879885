// The npm packages of the workspace, exactly as locked.

import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './places.mjs';
import { run, step } from './progress.mjs';

const STAMP = join(ROOT, 'node_modules/.gear-kv-setup');

/** Runs `npm ci` when node_modules is absent or was installed from another lock file. */
export async function installPackages() {
  const wanted = stamp();
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === wanted) return;
  await step('installing npm packages', async (onLine) => {
    await npm(['ci', '--loglevel=error', '--no-audit', '--no-fund'], { cwd: ROOT, onLine });
    writeFileSync(STAMP, wanted);
  });
}

/** The version of a package that the lock file pins. */
export function lockedVersion(name) {
  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  return lock.packages[`node_modules/${name}`].version;
}

function stamp() {
  const lock = createHash('sha256').update(readFileSync(join(ROOT, 'package-lock.json')));
  return `${lock.digest('hex')} ${process.platform} ${process.arch} ${process.versions.modules}`;
}

/** Runs npm, the one that started this script where there is one. */
export function npm(args, options) {
  // A user's `npm start --json` is meant for the demo, not for npm.
  const { npm_config_json: _, ...env } = { ...process.env, ...options.env };
  const cli = process.env.npm_execpath;
  if (cli?.endsWith('.js')) return run(process.execPath, [cli, ...args], { ...options, env });
  return run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args, { ...options, env });
}
