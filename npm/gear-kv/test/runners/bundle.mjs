// One file of the whole suite for a runtime that has no ava. `gear-kv` stays outside: what ships is what is tested.

import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PACKAGE, TARGET } from '../../../../scripts/setup/places.mjs';

const SUITE = join(PACKAGE, 'test/suite');
const HARNESS = join(PACKAGE, 'test/runners/harness.ts');

/**
 * Bundles the suite. `settings` ({runtime, backend, fixtureUrl, simd}) is what the suite finds in `globalThis.GEARKV_TEST`;
 * `entry` is what its `import … from 'gear-kv'` means there, and files in `without` are left out.
 */
export async function bundleSuite(settings, entry = 'gear-kv', without = []) {
  const { build } = await import('esbuild');
  const files = readdirSync(SUITE).filter((name) => name.endsWith('.test.ts') && !without.includes(name));
  const lines = files.map((name) => `await loadFile(${JSON.stringify(name)}, () => import('./${name}'));`);
  const contents = [`import { loadFile, runAll } from 'ava';`, ...lines, 'await runAll();'].join('\n');
  const outfile = join(
    TARGET,
    'suite',
    `${settings.runtime}-${settings.backend}${settings.simd ? `-${settings.simd}` : ''}.mjs`,
  );
  mkdirSync(join(TARGET, 'suite'), { recursive: true });
  await build({
    stdin: { contents, resolveDir: SUITE, sourcefile: 'suite.ts', loader: 'ts' },
    outfile,
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
    mainFields: ['module', 'main'],
    conditions: ['import', ...(settings.runtime === 'chromium' ? ['browser'] : ['node'])],
    sourcemap: 'inline',
    logLevel: 'warning',
    banner: { js: `globalThis.GEARKV_TEST = ${JSON.stringify(settings)};` },
    plugins: [
      {
        name: 'shipped package',
        setup({ onResolve }) {
          onResolve({ filter: /^ava$/ }, () => ({ path: HARNESS }));
          onResolve({ filter: /^node:/ }, ({ path }) => ({ path, external: true }));
          onResolve({ filter: /^gear-kv(\/|$)/ }, ({ path }) => ({
            path: path === 'gear-kv' ? entry : path,
            external: true,
          }));
        },
      },
    ],
  });
  return outfile;
}
