// Files that a save writes beside the name before it renames them: whose they are, so that those of processes that were killed can be cleared away.

import { builtin } from './backend/runtime.js';

const HIDDEN = /^\.(.+)\.([0-9a-z]+)-(\d+)-\d+-\d+\.tmp$/;

let here: string | undefined;

/**
 * Where this process's number means something: the machine, and the container on it. Empty where nobody may ask (Deno wants a permission for each
 * of these questions).
 */
export function whereabouts(): string {
  if (here !== undefined) return here;
  here = '';
  const [os, fs] = [builtin('node:os'), builtin('node:fs')];
  if ('Deno' in globalThis || os === undefined || fs === undefined) return here;
  let space = '';
  try {
    space = fs.readlinkSync('/proc/self/ns/pid');
  } catch {
    // Not Linux: a machine has one space of numbers.
  }
  let hash = 0;
  for (const character of `${os.hostname()} ${space}`) hash = (Math.imul(hash, 31) + character.charCodeAt(0)) >>> 0;
  here = hash.toString(36);
  return here;
}

/** A name for what is written beside a file of this name. */
export function hiddenName(name: string): string {
  const where = whereabouts();
  const random = crypto.getRandomValues(new Uint32Array(2)).join('-');
  return where === '' ? `.${name}.${random}.tmp` : `.${name}.${where}-${process.pid}-${random}.tmp`;
}

/** True for a name of {@link hiddenName} whose process is no more: of a file of that name, where one is given. */
export function isLeftBehind(name: string, of?: string): boolean {
  const [, file, where, pid] = HIDDEN.exec(name) ?? [];
  if (where === undefined || where !== whereabouts() || (of !== undefined && file !== of)) return false;
  return !isRunning(Number(pid));
}

/** Whether a process of this machine has this number. */
export function isRunning(pid: number): boolean {
  try {
    // Signal 0 asks whether there is such a process, and does nothing to it.
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Somebody else's process may not be asked, but it is there.
    return (error as { code?: unknown }).code !== 'ESRCH';
  }
}
