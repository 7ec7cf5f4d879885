// The licences of what is bundled: whoever gets a copy of others' code gets their terms with it.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './places.mjs';
import { SetupError } from './progress.mjs';

const PACKAGE = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+\//;
const LICENCE = /^(licen[cs]e|copying|notice)/i;

/** One text with the licence of each package that has files in the bundles, by what esbuild says of them. */
export function licences(metafiles) {
  const folders = new Set(
    metafiles
      .flatMap(({ outputs }) => Object.values(outputs))
      .flatMap(({ inputs }) => Object.entries(inputs))
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([file]) => PACKAGE.exec(file)?.[0])
      .filter((folder) => folder !== undefined),
  );
  const packages = [...folders].map(described).sort((a, b) => (a.name < b.name ? -1 : 1));
  const byText = new Map();
  for (const { name, text } of packages) byText.set(text, [...(byText.get(text) ?? []), name]);
  const parts = [...byText].map(([text, names]) => `${names.join(', ')}\n\n${text}`);
  const rule = `\n\n${'-'.repeat(80)}\n\n`;
  return `${['What the gear-kv command has in it of others, each under its own terms.', ...parts].join(rule)}\n`;
}

function described(folder) {
  const path = join(ROOT, folder);
  const { name, version, license } = JSON.parse(readFileSync(join(path, 'package.json'), 'utf8'));
  const texts = licenceTexts(path);
  if (texts === '') throw new SetupError(`${name} is bundled (${license}), and has no file with its licence`);
  return { name: `${name} ${version} (${license})`, text: texts };
}

function licenceTexts(path) {
  const files = readdirSync(path).filter((file) => LICENCE.test(file));
  return files.map((file) => readFileSync(join(path, file), 'utf8').replaceAll('\r\n', '\n').trim()).join('\n\n');
}
