// Runs test files with ava itself, in Node.

import { runChild } from '../../../../scripts/setup/child.mjs';
import { PACKAGE, ROOT } from '../../../../scripts/setup/places.mjs';
import { Report } from './report.mjs';

/** Runs ava on a pattern of files. */
export async function runAva(pattern, env, onTest) {
  const report = new Report();
  let open;
  const finish = () => {
    if (open !== undefined) report.fail(open.title, open.details.join('\n'));
    open = undefined;
  };
  const onLine = (line) => {
    const point = /^(not )?ok \d+(?: - (.*?))?(?: # (SKIP|TODO).*)?$/.exec(line);
    if (point !== null) {
      finish();
      const title = (point[2] ?? '').replace(/\\#/g, '#');
      if (point[3] !== undefined) report.skip(title);
      else if (point[1] === undefined) report.pass(title);
      else open = { title, details: [] };
      onTest(title);
    } else if (/^1\.\.\d+$/.test(line)) {
      finish();
      report.ended = true;
    } else if (open !== undefined) {
      open.details.push(line);
    }
  };
  const args = [`${ROOT}node_modules/ava/entrypoints/cli.mjs`, '--tap', pattern];
  const ran = await runChild(process.execPath, args, { cwd: PACKAGE, env: { ...process.env, ...env }, onLine });
  finish();
  return report.close(ran);
}
