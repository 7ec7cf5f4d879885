// Standard libraries of Rust for other targets than this machine.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { answer, commandPath } from './prerequisites.mjs';
import { run, step } from './progress.mjs';

/** Whether the compiler that is there has a target's library. */
function hasTarget(triple) {
  const sysroot = answer('rustc', ['--print', 'sysroot']);
  if (sysroot === undefined) return false;
  const library = join(sysroot, 'lib/rustlib', triple, 'lib');
  return existsSync(library) && readdirSync(library).some((file) => file.startsWith('libcore-'));
}

/** Adds a target's library with rustup. Returns why it is not there, or undefined when it is. */
export async function addTarget(triple) {
  if (hasTarget(triple)) return undefined;
  if (commandPath('rustup') === undefined) return 'rustup is not there to add it';
  try {
    await step(`adding the Rust target ${triple}`, (onLine) => run('rustup', ['target', 'add', triple], { onLine }));
  } catch (error) {
    return error.message.trim();
  }
  return hasTarget(triple) ? undefined : 'rustup added it, but not to the compiler that is in use';
}
