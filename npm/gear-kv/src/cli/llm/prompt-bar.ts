import type { WorkProgress } from '../../llm/progress.js';
import { bar, clearStatus, showStatus } from '../status-line.js';

/** A prompt that is taken in sooner needs no bar. */
const QUIET_MS = 1000;

/** Shows on a terminal how much of a prompt has been taken in; the line is gone before the answer begins. */
export class PromptBar {
  readonly #started = performance.now();
  #shown = false;

  /** The option of `generate`. */
  readonly onPrompt = ({ done, total }: WorkProgress): void => {
    if (done === total) {
      this.end();
    } else if (process.stderr.isTTY && performance.now() - this.#started >= QUIET_MS) {
      this.#shown = true;
      showStatus(`${bar(done / total)} prompt: ${done} of ${total} tokens`);
    }
  };

  /** Removes the line, where the prompt did not come to its end. */
  end(): void {
    if (this.#shown) clearStatus();
    this.#shown = false;
  }
}
