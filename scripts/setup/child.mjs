// Runs another program and collects what it says.

import { spawn } from 'node:child_process';

/**
 * Runs a command to its end. Each line it writes goes to `onLine` as it comes. Resolves with {code, signal, stdout, output}, where
 * `output` is both streams as they came; rejects only when the command cannot be started.
 */
export function runChild(command, args, { cwd, env, onLine = () => {}, timeoutMs } = {}) {
  return new Promise((resolve, reject) => {
    const stdio = ['ignore', 'pipe', 'pipe'];
    const child = spawn(command, args, {
      cwd,
      env: env ?? process.env,
      stdio,
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let output = '';
    listen(child.stdout, (text) => {
      stdout += text;
      output += text;
    });
    listen(child.stderr, (text) => {
      output += text;
    });
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, output }));

    function listen(stream, collect) {
      let rest = '';
      stream.setEncoding('utf8');
      stream.on('data', (text) => {
        collect(text);
        const lines = (rest + text).split('\n');
        rest = lines.pop();
        for (const line of lines) onLine(line);
      });
      stream.on('end', () => rest !== '' && onLine(rest));
    }
  });
}
