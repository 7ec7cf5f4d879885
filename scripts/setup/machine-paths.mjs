// Keeps folders of the machine that builds out of what it builds: where a program may panic, rustc writes down the source's whole path, and
// that of a dependency begins with the builder's home. Run by itself, it prints the flags for builds that are not set-up's.

import { homedir } from 'node:os';
import { dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from './places.mjs';

const CARGO_HOME = resolve(process.env.CARGO_HOME || join(homedir(), '.cargo'));
const RUSTUP_HOME = resolve(process.env.RUSTUP_HOME || join(homedir(), '.rustup'));
const SEPARATOR = '\x1f';

/** Sources of dependencies seem to lie in `/cargo`, those of the standard library, where they are installed, in `/rustup`. Those of this repository have relative paths as it is. */
const FLAGS = [`--remap-path-prefix=${CARGO_HOME}=/cargo`, `--remap-path-prefix=${RUSTUP_HOME}=/rustup`];

/** The environment for cargo, with `flags` and these beside those that it has. Encoded, because there are homes with a space in their name. */
export function withoutMachinePaths(env, flags) {
  const given = env.CARGO_ENCODED_RUSTFLAGS?.split(SEPARATOR) ?? env.RUSTFLAGS?.split(/\s+/) ?? [];
  const all = [...given, ...flags, ...FLAGS].filter((flag) => flag !== '');
  return { ...env, CARGO_ENCODED_RUSTFLAGS: all.join(SEPARATOR) };
}

/** Folders that nothing published may name, each with a separator at its end. */
export function machineFolders() {
  const homes = [homedir(), CARGO_HOME, RUSTUP_HOME].map((folder) => resolve(folder));
  const root = resolve(ROOT);
  // A checkout in /src, or a home that is / itself, would be found in every path.
  if (dirname(dirname(root)) !== dirname(root)) homes.push(root);
  return [...new Set(homes.map((folder) => join(folder, sep)))].filter((folder) => folder !== sep);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log(FLAGS.join(' '));
