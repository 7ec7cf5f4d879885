// What one run of tests came to: filled line by line, from the harness's report or from ava's TAP.

const HARNESS_PREFIX = '@gearkv-test ';

/** Counts and failures of one suite. */
export class Report {
  passed = 0;
  failed = 0;
  skipped = 0;
  /** Texts to print in full. */
  failures = [];
  /** Why tests were skipped, where their titles say so: `… (skipped: REASON)`. */
  reasons = new Set();
  ended = false;
  latest = '';

  pass(title) {
    this.passed += 1;
    this.latest = title;
  }

  fail(title, details) {
    this.failed += 1;
    this.failures.push(`${title}\n${details.trimEnd()}`);
    this.latest = title;
  }

  skip(title) {
    this.skipped += 1;
    const reason = /\(skipped: (.*)\)$/.exec(title)?.[1];
    if (reason !== undefined) this.reasons.add(reason);
  }

  /** Counts another's tests as its own. */
  add(other) {
    this.passed += other.passed;
    this.failed += other.failed;
    this.skipped += other.skipped;
    this.failures.push(...other.failures);
    for (const reason of other.reasons) this.reasons.add(reason);
  }

  /** For a suite that could not be run, crashed or went silent: that is a failure, never a skip. */
  static broken(title, details) {
    const report = new Report();
    report.fail(title, details);
    return report;
  }

  /** Takes a line of the harness's report; says whether it was one. */
  readHarnessLine(line) {
    if (!line.startsWith(HARNESS_PREFIX)) return false;
    const { event, file, title, error } = JSON.parse(line.slice(HARNESS_PREFIX.length));
    if (event === 'end') this.ended = true;
    else if (event === 'skip') this.skip(title);
    else if (error === undefined) this.pass(`${file}: ${title}`);
    else this.fail(`${file}: ${title}`, error);
    return true;
  }

  /** Adds the failures that no test reported: an early end, or an exit code with nothing to explain it. */
  close({ code, signal, output }) {
    const said = output.split('\n').filter((line) => !line.startsWith(HARNESS_PREFIX));
    const tail = said.join('\n').trimEnd().split('\n').slice(-60).join('\n');
    const how = signal ? `was ended by ${signal}` : `exited with code ${code}`;
    if (!this.ended) this.fail('the run did not reach its end', `it ${how}:\n${tail}`);
    else if (code !== 0 && this.failed === 0) this.fail('the run failed after its tests', `it ${how}:\n${tail}`);
    else if (this.passed + this.failed + this.reasons.size === 0) this.fail('no test was run', tail);
    return this;
  }
}
