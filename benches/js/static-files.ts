// A server of files for pages in a browser.

import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';

const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.json': 'application/json',
  '.wasm': 'application/wasm',
  '.txt': 'text/plain',
};

/** Something served that is no file. */
export interface Content {
  readonly type: string;
  readonly body: string | Uint8Array;
}

/**
 * Serves files on a port of this machine's own.
 *
 * @param folders - What paths begin with, and the folder that the rest is in; the first that fits counts. `/` is `index.html` of the folder of `/`.
 * @param contents - What is served for these paths, whatever the folders hold.
 */
export async function servedFiles(
  folders: Readonly<Record<string, string>>,
  contents: Readonly<Record<string, Content>> = {},
): Promise<{ url: string; stop(): void }> {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    const content = contents[path];
    if (content !== undefined) return response.setHeader('content-type', content.type).end(content.body);
    const [prefix, folder] = Object.entries(folders).find(([start]) => path.startsWith(start)) ?? [];
    if (prefix === undefined || folder === undefined) return response.writeHead(404).end();
    const file = join(folder, path === '/' ? 'index.html' : path.slice(prefix.length));
    const found = statSync(file, { throwIfNoEntry: false });
    if (found?.isFile() !== true) return response.writeHead(404).end();
    response
      .setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream')
      .setHeader('content-length', found.size);
    return createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    stop: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
