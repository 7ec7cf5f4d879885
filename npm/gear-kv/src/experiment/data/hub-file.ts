// One file of a public repository: at one commit, checked by its hash, downloaded once.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type DownloadManner, download } from '../../llm/download.js';
import { dataFolder, hasHash } from './files.js';

/** A file that is the same forever. */
export interface HubFile {
  /** Owner and name. */
  readonly repository: string;
  readonly commit: string;
  readonly path: string;
  readonly sha256: string;
}

/** How it is had. */
export interface HubOptions extends DownloadManner {
  /** What serves files of repositories. Default: GitHub. */
  readonly origin?: string | undefined;
  /** Where files are kept. Default: {@link dataFolder}. */
  readonly folder?: string | undefined;
}

const GITHUB = 'https://raw.githubusercontent.com';

/**
 * The text of a file.
 *
 * @throws GearError `IO_FAILED` where it is neither here nor to be had, `CORRUPT_DATA` where something else arrives; the signal's reason.
 */
export async function hubText(
  { repository, commit, path, sha256 }: HubFile,
  { origin = GITHUB, folder, ...options }: HubOptions,
): Promise<string> {
  // Files of several repositories may have one name; their hashes differ.
  const file = join(folder ?? (await dataFolder()), `${sha256.slice(0, 12)}-${path.split('/').at(-1)}`);
  if (!(await hasHash(file, sha256))) {
    await download(new URL(`${origin}/${repository}/${commit}/${path}`), file, sha256, options);
  }
  return readFile(file, 'utf8');
}

/** What reports say of a file's origin. */
export function hubSource({ repository, commit }: Pick<HubFile, 'repository' | 'commit'>): string {
  return `github.com/${repository} at ${commit.slice(0, 7)}`;
}
