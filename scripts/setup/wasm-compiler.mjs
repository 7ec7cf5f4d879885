// Finds, or installs, a Rust compiler that has the standard library for wasm32-unknown-unknown.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { TARGET } from './places.mjs';
import { answer, aptCommand, canInstallDebianPackages, commandPath, installDebianPackages } from './prerequisites.mjs';
import { run, SetupError, step } from './progress.mjs';

const TRIPLE = 'wasm32-unknown-unknown';
const DEBIAN = ['rustc-web', 'cargo-web', 'rust-web-src', 'lld-22'];
const DEBIAN_LINKER = '/usr/bin/wasm-ld-22';

/**
 * How to compile for wasm32: {cargo, args, env, targetDir, version}. In this order: the compiler that is there, with rustup's help,
 * Debian's compiler, which has the library as source.
 */
export async function wasmCompiler() {
  if (hasTarget()) return ownCompiler();
  const reasons = [];
  if (commandPath('rustup') === undefined) {
    reasons.push('rustup is not there to add it');
  } else {
    try {
      await step(`adding the Rust target ${TRIPLE}`, (onLine) => run('rustup', ['target', 'add', TRIPLE], { onLine }));
    } catch (error) {
      reasons.push(error.message.trim());
    }
    if (hasTarget()) return ownCompiler();
  }
  return debianCompiler(reasons);
}

function hasTarget() {
  const sysroot = answer('rustc', ['--print', 'sysroot']);
  if (sysroot === undefined) return false;
  const library = join(sysroot, 'lib/rustlib', TRIPLE, 'lib');
  return existsSync(library) && readdirSync(library).some((file) => file.startsWith('libcore-'));
}

function ownCompiler() {
  return { cargo: 'cargo', args: [], env: {}, targetDir: TARGET, version: answer('rustc', ['--version']) };
}

async function debianCompiler(reasons) {
  if (!debianInstalled()) {
    if (!canInstallDebianPackages()) {
      throw new SetupError(
        [
          `the Rust target ${TRIPLE} is missing:`,
          ...reasons.map((reason) => `  ${reason}`),
          'Add it with one of:',
          `  rustup target add ${TRIPLE}`,
          `  sudo ${aptCommand(DEBIAN)}        (Debian 12 and newer)`,
        ].join('\n'),
      );
    }
    await step(`installing Debian's Rust compiler for WebAssembly (${DEBIAN.join(' ')})`, (onLine) =>
      installDebianPackages(DEBIAN, onLine),
    );
  }
  return {
    cargo: '/usr/bin/cargo',
    // Debian ships the standard library as source. Building it is an unstable option, which a stable compiler takes when
    // told to bootstrap.
    args: ['-Zbuild-std=std,panic_abort'],
    env: {
      RUSTC_BOOTSTRAP: '1',
      RUSTC: '/usr/bin/rustc',
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: DEBIAN_LINKER,
    },
    targetDir: join(TARGET, 'debian'),
    version: answer('/usr/bin/rustc', ['--version']),
  };
}

function debianInstalled() {
  return ['/usr/bin/cargo', '/usr/bin/rustc', DEBIAN_LINKER].every((file) => existsSync(file));
}
