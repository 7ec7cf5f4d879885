// Decides whether a step has to run: its inputs are hashed by content, so that neither a fresh checkout's timestamps nor a
// touched file cause a rebuild.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { ROOT, TARGET } from './places.mjs';

const SKIPPED_FOLDERS = new Set(['node_modules', 'target', 'dist', 'tests', 'benches']);

/** Hash of files and folders (relative to the repository), and of `facts` that change the result as well. */
export function fingerprint(paths, facts = []) {
  const hash = createHash('sha256');
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const path of paths) {
    for (const file of filesIn(join(ROOT, path))) {
      hash
        .update(`${relative(ROOT, file)}\0`)
        .update(readFileSync(file))
        .update('\0');
    }
  }
  return hash.digest('hex');
}

function filesIn(path) {
  if (!existsSync(path)) return [];
  if (statSync(path).isFile()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => !SKIPPED_FOLDERS.has(entry.name) && !entry.name.startsWith('.'))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => (entry.isDirectory() ? filesIn(join(path, entry.name)) : [join(path, entry.name)]));
}

const stampOf = (name) => join(TARGET, 'setup', `${name}.stamp`);

/** Whether the outputs exist and were made from the same inputs. */
export function isUnchanged(name, { inputs, outputs }) {
  const stamp = stampOf(name);
  return outputs.every((file) => existsSync(file)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === inputs();
}

/** Runs `build` unless {@link isUnchanged}. */
export async function unlessUnchanged(name, module, build) {
  if (isUnchanged(name, module)) return;
  await build();
  mkdirSync(join(TARGET, 'setup'), { recursive: true });
  // Taken anew: cargo may have written its lock file.
  writeFileSync(stampOf(name), module.inputs());
}
