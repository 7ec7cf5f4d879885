// Finds, or installs, a Rust compiler that has the standard library for wasm32-unknown-unknown.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { TARGET } from './places.mjs';
import { answer, aptCommand, canInstallDebianPackages, installDebianPackages } from './prerequisites.mjs';
import { SetupError, step } from './progress.mjs';
import { addTarget } from './rust-target.mjs';

const TRIPLE = 'wasm32-unknown-unknown';
const DEBIAN = ['rustc-web', 'cargo-web', 'rust-web-src', 'lld-22'];
const DEBIAN_LINKER = '/usr/bin/wasm-ld-22';

/**
 * How to compile for wasm32: {cargo, args, env, targetDir, version}. In this order: the compiler that is there, with rustup's help,
 * Debian's compiler, which has the library as source.
 */
export async function wasmCompiler() {
  const reason = await addTarget(TRIPLE);
  return reason === undefined ? ownCompiler() : debianCompiler(reason);
}

function ownCompiler() {
  return { cargo: 'cargo', args: [], env: {}, targetDir: TARGET, version: answer('rustc', ['--version']) };
}

async function debianCompiler(reason) {
  if (!debianInstalled()) {
    if (!canInstallDebianPackages()) {
      throw new SetupError(
        [
          `the Rust target ${TRIPLE} is missing:`,
          `  ${reason}`,
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
