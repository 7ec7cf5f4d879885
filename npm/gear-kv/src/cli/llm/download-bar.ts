import type { DownloadProgress } from '../../llm/download.js';
import { bar, clearStatus, showStatus } from '../status-line.js';
import { bytesText } from '../table.js';

/** How often a terminal is drawn anew, and how often a log file gets a line. */
const DRAW_MS = 100;
const LOG_MS = 5000;

/** Shows on standard error how much of a download has arrived. */
export class DownloadBar {
  readonly #started = performance.now();
  #spoke = 0;

  /** To be called as bytes arrive. */
  readonly update = ({ from, receivedBytes, totalBytes }: DownloadProgress): void => {
    const now = performance.now();
    const done = receivedBytes === totalBytes;
    if (!done && now - this.#spoke < (process.stderr.isTTY ? DRAW_MS : LOG_MS)) return;
    this.#spoke = now;
    const speed = `${bytesText(receivedBytes / ((now - this.#started) / 1000))}/s`;
    const text = `${bytesText(receivedBytes)}${totalBytes === undefined ? '' : ` of ${bytesText(totalBytes)}`} from ${from}, ${speed}`;
    const share = totalBytes === undefined || totalBytes === 0 ? undefined : receivedBytes / totalBytes;
    if (!process.stderr.isTTY) {
      process.stderr.write(`${share === undefined ? '' : `${(100 * share).toFixed(0).padStart(3)} %  `}${text}\n`);
      return;
    }
    showStatus(share === undefined ? text : `${bar(share)} ${text}`);
  };

  /** Clears the line. */
  end(): void {
    if (process.stderr.isTTY && this.#spoke > 0) clearStatus();
  }
}
