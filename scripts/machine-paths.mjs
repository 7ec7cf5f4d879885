// Fails where a file that is published names a folder of the machine that built it. Looks into what set-up built, or into the folders that are named.

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { machineFolders } from './setup/machine-paths.mjs';
import { DIST } from './setup/places.mjs';

const AROUND = 120;

const named = process.argv.slice(2);
const folders = machineFolders();
let files = 0;
let found = 0;
for (const place of named.length > 0 ? named : [DIST]) {
  for (const entry of readdirSync(place, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    files += 1;
    const path = join(entry.parentPath, entry.name);
    const bytes = readFileSync(path);
    for (const folder of folders) {
      const at = bytes.indexOf(folder);
      if (at < 0) continue;
      found += 1;
      const text = bytes.toString('latin1', at, at + AROUND);
      console.log(`${relative(place, path)} names ${folder}: ${/^[ -~]*/.exec(text)[0]}`);
    }
  }
}
console.log(`${files} files, ${found === 0 ? 'none of which names' : 'some of which name'} ${folders.join(', ')}`);
process.exitCode = found === 0 && files > 0 ? 0 : 1;
