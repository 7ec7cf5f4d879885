import { untilAborted } from '../abort.js';

interface Running<Result> {
  readonly work: Promise<Result>;
  users: number;
  isDone: boolean;
}

/** Work that is done once for all who ask for it at the same time; what it gave is disposed of when the last of them has taken theirs. */
export class Sharing<Result> {
  readonly #running = new Map<string, Running<Result>>();
  readonly #dispose: (result: Result) => void;

  constructor(dispose: (result: Result) => void) {
    this.#dispose = dispose;
  }

  /**
   * Takes something of the work that goes by this name, and starts it where it is not running. Where the signal fires, only the one who waited
   * goes; where the work fails, it fails for all who wait, and the next one starts it anew.
   */
  async take<Taken>(
    name: string,
    start: () => Promise<Result>,
    take: (result: Result) => Taken,
    signal: AbortSignal | undefined,
  ): Promise<Taken> {
    const running = this.#running.get(name) ?? this.#started(name, start());
    running.users += 1;
    try {
      return take(await untilAborted(running.work, signal));
    } finally {
      running.users -= 1;
      if (running.isDone) this.#close(name, running);
    }
  }

  #started(name: string, work: Promise<Result>): Running<Result> {
    const running = { work, users: 0, isDone: false };
    this.#running.set(name, running);
    work.then(
      () => {
        running.isDone = true;
        this.#close(name, running);
      },
      () => this.#forget(name, running),
    );
    return running;
  }

  #close(name: string, running: Running<Result>): void {
    // Those who wait are told after this: the last of them closes it.
    if (running.users > 0) return;
    this.#forget(name, running);
    running.work.then(this.#dispose, () => {});
  }

  #forget(name: string, running: Running<Result>): void {
    if (this.#running.get(name) === running) this.#running.delete(name);
  }
}
