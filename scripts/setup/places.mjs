// Where things are, seen from the root of the repository.

import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const PACKAGE = join(ROOT, 'npm/gear-kv');
export const DIST = join(PACKAGE, 'dist');
export const TARGET = join(ROOT, 'target');

/** Build tools that outlive a clone: they take a minute to build and depend on nothing but their own version. */
export const TOOL_CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'gear-kv');
