// Packs the package the way a release does: the facade without any binary, and each binary of this machine, the codec's and the
// engine's, as a package of its own, put together by the same napi commands.

import { execFile, execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const ROOT = fileURLToPath(new URL('../../../../', import.meta.url));

/** A packed tarball. */
export interface Tarball {
  readonly path: string;
  readonly files: readonly string[];
}

/** What a release for this machine alone consists of. */
export interface Release {
  readonly facade: Tarball;
  readonly platform: Tarball;
  readonly platformName: string;
  /** The engine of gear-kv/llm. */
  readonly engine: Tarball;
  readonly engineName: string;
  remove(): void;
}

/** Runs a program to its end. Resolves with what it printed; rejects with everything it said. */
export function runProgram(command: string, args: readonly string[], cwd: string): Promise<string> {
  // The settings of the npm that started the tests (its level of output, its workspace) are not for the programs run here.
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^npm_(?!config_(registry|cache|userconfig)$)/i.test(name),
  );
  const env = { ...Object.fromEntries(inherited), NODE_OPTIONS: '' };
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd, env, maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${[command, ...args].join(' ')} in ${cwd}: ${error.message}\n${stdout}\n${stderr}`));
    });
  });
}

/** Runs npm where messages are worth seeing. */
export function npm(args: readonly string[], cwd: string): Promise<string> {
  return runProgram('npm', [...args, '--loglevel=error', '--no-audit', '--no-fund'], cwd);
}

/** Stages and packs both packages in a new folder. */
export async function packRelease(): Promise<Release> {
  const folder = mkdtempSync(join(tmpdir(), 'gear-kv-pack-'));
  const facade = join(folder, 'gear-kv');
  for (const name of ['package.json', 'README.md', 'LICENSE', 'dist']) {
    cpSync(join(PACKAGE, name), join(facade, name), { recursive: true });
  }
  // A release has all targets; here there is one.
  const manifest = JSON.parse(readFileSync(join(facade, 'package.json'), 'utf8'));
  manifest.napi.targets = [hostTriple()];
  writeFileSync(join(facade, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  const engineConfig = join(folder, 'engine.json');
  const config = JSON.parse(readFileSync(join(ROOT, 'bindings/node-llm/napi.json'), 'utf8'));
  writeFileSync(engineConfig, JSON.stringify({ ...config, targets: [hostTriple()] }));
  const platform = await platformPackage(facade, 'dist/native', 'platforms', []);
  const engine = await platformPackage(facade, 'dist/native-llm', 'engines', ['--config-path', engineConfig]);
  return {
    facade: await pack(facade, folder),
    platform: await pack(platform.path, folder),
    platformName: `gear-kv-${platform.abi}`,
    engine: await pack(engine.path, folder),
    engineName: `gear-kv-llm-${engine.abi}`,
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

/** Makes the package of one binary, and names it in the facade as an optional dependency. */
async function platformPackage(
  facade: string,
  built: string,
  npmDir: string,
  config: readonly string[],
): Promise<{ path: string; abi: string }> {
  const binary = readdirSync(join(facade, built)).find((name) => name.endsWith('.node'));
  if (binary === undefined) throw new Error(`${built} has no .node file; run npm run build`);
  const napi = join(ROOT, 'node_modules/@napi-rs/cli/dist/cli.js');
  const runNapi = (...args: string[]) =>
    runProgram(process.execPath, [napi, ...args, '--npm-dir', npmDir, ...config], facade);
  await runNapi('create-npm-dirs');
  const [abi] = readdirSync(join(facade, npmDir));
  if (abi === undefined) throw new Error('napi create-npm-dirs made no platform package');
  const path = join(facade, npmDir, abi);
  cpSync(join(facade, built, binary), join(path, binary));
  await runNapi('pre-publish', '--skip-optional-publish', '--no-gh-release', '--tag-style', 'npm');
  return { path, abi };
}

async function pack(source: string, destination: string): Promise<Tarball> {
  const [packed] = JSON.parse(await npm(['pack', '--json', '--pack-destination', destination], source));
  const { filename, files } = packed as { filename: string; files: { path: string }[] };
  return { path: join(destination, filename), files: files.map(({ path }) => path).sort() };
}

function hostTriple(): string {
  const host = /^host: (.+)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' }))?.[1];
  if (host === undefined) throw new Error('rustc -vV does not name its host');
  return host;
}
