// Brings a fresh clone to the point where everything that uses the codec can run; with --engine `npm start`, with --web-engine
// `npm run demo`, with --test `npm test`. A step whose inputs did not change is skipped. Runs before anything is installed, so
// it uses Node's built-in modules only.

import { installBrowser } from './setup/browser.mjs';
import { prepareModel } from './setup/model.mjs';
import { buildEngine, buildNative } from './setup/native.mjs';
import { installPackages } from './setup/packages.mjs';
import { checkPrerequisites } from './setup/prerequisites.mjs';
import { SetupError, say } from './setup/progress.mjs';
import { buildTypeScript } from './setup/typescript.mjs';
import { buildWasm, buildWasmEngine, removeOldWasmEngine } from './setup/wasm.mjs';

const isFor = (flag) => [flag, '--test'].some((wanted) => process.argv.includes(wanted));

try {
  const rustc = checkPrerequisites();
  await installPackages();
  await buildNative(rustc);
  await buildWasm(rustc);
  if (isFor('--engine')) await buildEngine(rustc);
  if (isFor('--web-engine')) await buildWasmEngine(rustc);
  else removeOldWasmEngine(rustc);
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
