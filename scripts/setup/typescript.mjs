// The JavaScript that ships: one bundle an entry point, as ES module and as CommonJS, and the type declarations of both.

import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fingerprint, unlessUnchanged } from './fingerprint.mjs';
import { licences } from './licences.mjs';
import { lockedVersion } from './packages.mjs';
import { DIST, PACKAGE, ROOT } from './places.mjs';
import { run, step } from './progress.mjs';

const ENTRIES = ['index.node', 'index.web', 'native', 'wasm', 'llm'];
/** They import the core as `gear-kv`, by whatever build the runtime gets under that name: one class GearCache, one init(). */
const ADAPTERS = ['transformers', 'ort', 'store'];
/** Its bundle holds the glue of the engine's WebAssembly module, which not every set-up builds. */
const WEB_ENGINE = 'llm.web';
const WEB_ENGINE_GLUE = join(DIST, 'wasm-llm/gearkv_wasm_llm.js');
/** What `gear-kv demo` and `gear-kv compare` work on. */
const SHIPPED_FIXTURES = ['fixtures/kv_smollm2_135m.safetensors', 'fixtures/bread.txt'];
/** What draws the plots of a report: as large as all else together, so the command loads it when it draws. */
const PLOTS = 'plots';
const LICENCES = 'third-party-licences.txt';
const TYPES = join(DIST, 'types');

/** Bundles the facade into `dist` and emits its types. */
export async function buildTypeScript() {
  const sources = ['npm/gear-kv/src', 'npm/gear-kv/package.json', 'npm/gear-kv/tsconfig.build.json', 'tsconfig.json'];
  // The glue of the WebAssembly module is part of the bundles; its file name is not enough to tell that it changed.
  const glue = ['wasm/gearkv_wasm.js', 'wasm-llm/gearkv_wasm_llm.js'].map((file) => `npm/gear-kv/dist/${file}`);
  const built = [...glue, 'scripts/setup/typescript.mjs', 'scripts/setup/licences.mjs'];
  const shipped = ['README.md', 'LICENSE', ...SHIPPED_FIXTURES];
  const outputs = [
    ...[...ENTRIES, ...ADAPTERS, ...webEntries()].flatMap((entry) => [
      join(DIST, `${entry}.js`),
      join(DIST, `${entry}.cjs`),
    ]),
    ...[...ENTRIES, ...ADAPTERS].flatMap((entry) => [join(TYPES, `${entry}.d.ts`), join(TYPES, `${entry}.d.cts`)]),
    ...['cli.js', `${PLOTS}.js`, LICENCES].map((file) => join(DIST, file)),
    ...SHIPPED_FIXTURES.map((file) => join(DIST, file)),
  ];
  const inputs = () =>
    fingerprint([...sources, ...built, ...shipped], ['typescript', 'esbuild', 'vega', 'vega-lite'].map(lockedVersion));
  await unlessUnchanged('typescript', { inputs, outputs }, () =>
    step('building the TypeScript facade', async (onLine) => {
      await bundle();
      await declarations(onLine);
      copyShippedFiles();
    }),
  );
}

function webEntries() {
  return existsSync(WEB_ENGINE_GLUE) ? [WEB_ENGINE] : [];
}

/** Of these files the bundles for browsers take the `.web.ts` beside them. */
const WEB_FILES = /\/(addon|model-file)\.js$/;

const forBrowsers = {
  name: 'files for browsers',
  setup({ onResolve }) {
    onResolve({ filter: WEB_FILES }, ({ path, importer, resolveDir }) =>
      importer.endsWith('.web.ts') ? undefined : { path: join(resolveDir, path.replace(/\.js$/, '.web.ts')) },
    );
  },
};

const onTheCore = {
  name: 'adapters on the core',
  setup({ onResolve }) {
    onResolve({ filter: /\/public\.js$/ }, () => ({ path: 'gear-kv', external: true, sideEffects: false }));
  },
};

const onItsOwn = {
  name: 'what draws plots',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\/draw\.js$/ }, () => ({ path: `./${PLOTS}.js`, external: true }));
  },
};

async function bundle() {
  const { build } = await import('esbuild');
  const { version } = JSON.parse(readFileSync(join(PACKAGE, 'package.json'), 'utf8'));
  const common = {
    absWorkingDir: ROOT,
    bundle: true,
    outdir: DIST,
    target: 'es2022',
    platform: 'neutral',
    conditions: ['import'],
    external: ['node:*'],
    define: { GEARKV_VERSION: JSON.stringify(version) },
    legalComments: 'none',
    logLevel: 'warning',
    // The source takes the CommonJS way before it looks at import.meta.
    logOverride: { 'empty-import-meta': 'silent' },
  };
  const entry = (name) => ({ in: join(PACKAGE, `src/${name}.ts`), out: name });
  const cli = { in: join(PACKAGE, 'src/cli/main.ts'), out: 'cli' };
  for (const [names, plugins] of [
    [ENTRIES, []],
    [ADAPTERS, [onTheCore]],
    [webEntries(), [forBrowsers]],
  ]) {
    const these = { ...common, entryPoints: names.map(entry), plugins };
    await build({ ...these, format: 'esm' });
    await build({ ...these, format: 'cjs', outExtension: { '.js': '.cjs' } });
  }
  const forCommand = { ...common, format: 'esm', metafile: true };
  const plots = { in: join(PACKAGE, 'src/experiment/report/draw.ts'), out: PLOTS };
  const bundles = [
    await build({ ...forCommand, entryPoints: [cli], plugins: [onItsOwn] }),
    await build({ ...forCommand, entryPoints: [plots], mainFields: ['module', 'main'], minify: true }),
  ];
  writeFileSync(join(DIST, LICENCES), licences(bundles.map(({ metafile }) => metafile)));
  const file = join(DIST, 'cli.js');
  const source = readFileSync(file, 'utf8');
  if (!source.startsWith('#!')) writeFileSync(file, `#!/usr/bin/env node\n${source}`);
  chmodSync(file, 0o755);
}

async function declarations(onLine) {
  rmSync(TYPES, { recursive: true, force: true });
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', join(PACKAGE, 'tsconfig.build.json')], { cwd: ROOT, onLine });
  const files = readdirSync(TYPES, { recursive: true }).map(String);
  for (const file of files.filter((name) => name.endsWith('.d.ts'))) {
    // A CommonJS importer needs declarations that are CommonJS all the way down.
    const text = readFileSync(join(TYPES, file), 'utf8');
    writeFileSync(
      join(TYPES, file.replace(/\.d\.ts$/, '.d.cts')),
      text.replace(/(['"])(\.{1,2}\/[^'"]+)\.js\1/g, '$1$2.cjs$1'),
    );
  }
}

function copyShippedFiles() {
  for (const file of ['README.md', 'LICENSE']) {
    if (existsSync(join(ROOT, file))) copyFileSync(join(ROOT, file), join(PACKAGE, file));
  }
  rmSync(join(DIST, 'fixtures'), { recursive: true, force: true });
  mkdirSync(join(DIST, 'fixtures'), { recursive: true });
  for (const file of SHIPPED_FIXTURES) copyFileSync(join(ROOT, file), join(DIST, file));
}
