// The browser for the tests: whichever Chromium is on the machine, Debian's where there is none.

import { existsSync } from 'node:fs';
import { aptCommand, canInstallDebianPackages, commandPath, installDebianPackages } from './prerequisites.mjs';
import { SetupError, step } from './progress.mjs';

const COMMANDS = ['chromium', 'chromium-browser', 'google-chrome-stable', 'google-chrome', 'chrome'];
const APPLICATIONS = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
];

/** Path of a Chromium, or undefined. `CHROMIUM_PATH` comes first. */
export function chromiumPath() {
  const { CHROMIUM_PATH } = process.env;
  if (CHROMIUM_PATH) return CHROMIUM_PATH;
  for (const name of COMMANDS) {
    const path = commandPath(name);
    if (path !== undefined) return path;
  }
  return APPLICATIONS.find((path) => existsSync(path));
}

/** Installs Chromium where it is absent and that needs no password. */
export async function installBrowser() {
  if (chromiumPath() !== undefined) return;
  if (!canInstallDebianPackages()) {
    throw new SetupError(
      `the tests need a Chromium and found none. Install it (Debian: sudo ${aptCommand(['chromium'])}), ` +
        'or name one in the environment variable CHROMIUM_PATH',
    );
  }
  await step('installing Chromium for the browser tests', (onLine) => installDebianPackages(['chromium'], onLine));
}
