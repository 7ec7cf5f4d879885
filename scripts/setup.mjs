// Brings a fresh clone to the point where `npm start`, with --engine `npm run talk`, and with --test `npm test` can run. A step whose inputs did not change
// is skipped. Runs before anything is installed, so it uses Node's built-in modules only.

import { installBrowser } from './setup/browser.mjs';
import { prepareModel } from './setup/model.mjs';
import { buildEngine, buildNative } from './setup/native.mjs';
import { installPackages } from './setup/packages.mjs';
import { checkPrerequisites } from './setup/prerequisites.mjs';
import { SetupError, say } from './setup/progress.mjs';
import { buildTypeScript } from './setup/typescript.mjs';
import { buildWasm, buildWasmEngine } from './setup/wasm.mjs';

try {
  const rustc = checkPrerequisites();
  await installPackages();
  await buildNative(rustc);
  await buildWasm(rustc);
  if (['--engine', '--test'].some((flag) => process.argv.includes(flag))) {
    await buildEngine(rustc);
    await buildWasmEngine(rustc);
  }
  await buildTypeScript();
  if (process.argv.includes('--test')) {
    await installBrowser();
    await prepareModel();
  }
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  say(`\ngear-kv set-up: ${error.message}`);
  process.exitCode = 1;
}
