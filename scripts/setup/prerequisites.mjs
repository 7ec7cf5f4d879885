// What has to be on the machine already, and what set-up may install there by itself.

import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { run, SetupError } from './progress.mjs';

const OLDEST_NODE = [20, 16];
const OLDEST_RUST = [1, 90];

/** Full path of a command, or undefined. */
export function commandPath(name) {
  const names = process.platform === 'win32' ? [`${name}.exe`, `${name}.cmd`] : [name];
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    for (const candidate of names) {
      try {
        accessSync(join(folder, candidate), constants.X_OK);
        return join(folder, candidate);
      } catch {
        // Not in this folder.
      }
    }
  }
  return undefined;
}

/** First line that a command prints, or undefined when it is absent or fails. */
export function answer(command, args) {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim().split('\n')[0] : undefined;
}

/** Fails, naming everything that is missing at once. Returns the compiler's version. */
export function checkPrerequisites() {
  const missing = [];
  if (isOlder(process.versions.node, OLDEST_NODE)) {
    missing.push(
      `Node ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}: https://nodejs.org/en/download`,
    );
  }
  const rustc = answer('rustc', ['--version']);
  const install = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh";
  if (rustc === undefined || answer('cargo', ['--version']) === undefined) {
    missing.push(`cargo and rustc, ${OLDEST_RUST.join('.')} or newer: ${install}`);
  } else if (isOlder(rustc.split(' ')[1], OLDEST_RUST)) {
    missing.push(`Rust ${OLDEST_RUST.join('.')} or newer; this is ${rustc}: rustup update stable`);
  }
  if (process.platform === 'linux' && commandPath('cc') === undefined) {
    missing.push('a C linker (cc): apt-get install gcc libc6-dev');
  }
  if (missing.length > 0)
    throw new SetupError(`missing on this machine:\n${missing.map((line) => `  - ${line}`).join('\n')}`);
  return rustc;
}

function isOlder(version, oldest) {
  const [major, minor] = version.split('.').map(Number);
  return major < oldest[0] || (major === oldest[0] && minor < oldest[1]);
}

/** The command that installs Debian packages. */
export function aptCommand(packages) {
  return `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Whether Debian packages can be installed from here. */
export function canInstallDebianPackages() {
  return process.getuid?.() === 0 && commandPath('apt-get') !== undefined;
}

/** Installs Debian packages. Only as root: set-up never asks for a password. */
export async function installDebianPackages(packages, onLine) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  // An old package list is no reason to give up: the install below says so when it is.
  await run('apt-get', ['update', '-qq'], { env, onLine }).catch(() => undefined);
  await run('apt-get', ['install', '-y', '--no-install-recommends', ...packages], { env, onLine });
}
