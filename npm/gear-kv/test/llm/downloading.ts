// Another process that downloads: node --import=tsx downloading.ts URL PATH SHA256
import { download } from '../../src/llm/download.js';

const [url = '', path = '', expected] = process.argv.slice(2);
await download(new URL(url), path, expected, { pauseMs: 1 });
