import { clearStatus, showStatus } from './status-line.js';

/** Shorter work than this passes without a word. */
const QUIET_MS = 1000;
/** How often a log file, as opposed to a terminal, gets a line. */
const LOG_MS = 5000;

/** Says on standard error how far long work has come; standard output is for the result alone. */
export class Progress {
  readonly #label: string;
  readonly #total: number;
  readonly #started = performance.now();
  #spoke = 0;
  #done = 0;

  constructor(label: string, total: number) {
    this.#label = label;
    this.#total = total;
  }

  /** One more is about to begin. */
  step(name: string): void {
    this.#done += 1;
    const now = performance.now();
    if (now - this.#started < QUIET_MS) return;
    const text = `${this.#label} ${this.#done}/${this.#total}: ${name}`;
    if (process.stderr.isTTY) {
      showStatus(text);
    } else if (now - this.#spoke > LOG_MS || this.#spoke === 0) {
      process.stderr.write(`${text}\n`);
    } else {
      return;
    }
    this.#spoke = now;
  }

  /** So many are done or have begun, where nobody tells of each. */
  reach(count: number, name: string): void {
    while (this.#done < count) this.step(name);
  }

  /** Clears the line. */
  end(): void {
    if (process.stderr.isTTY && this.#spoke > 0) clearStatus();
  }
}
