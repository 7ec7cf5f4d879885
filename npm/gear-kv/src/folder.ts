import { builtin } from './backend/runtime.js';

/**
 * Makes a folder, and those that it lies in, where they are not there. Step by step: `mkdir` with `recursive` never comes back in Node 20 where a file
 * system refuses new folders as if the one above were missing, as `/proc` does.
 */
export async function makeFolder(folder: string): Promise<void> {
  const fs = builtin('node:fs')?.promises;
  const path = builtin('node:path');
  if (fs === undefined || path === undefined) throw new Error('there are no folders here');
  const isThere = () =>
    fs.stat(folder).then(
      (stats) => stats.isDirectory(),
      () => false,
    );
  if (await isThere()) return;
  const above = path.dirname(path.resolve(folder));
  if (above !== path.resolve(folder)) await makeFolder(above);
  try {
    await fs.mkdir(folder);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if (!(await isThere())) throw error;
  }
}
