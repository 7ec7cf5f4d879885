// Stands in for ava where ava cannot run: in browsers, Deno and Bun. The suite imports 'ava' everywhere; for those runtimes
// the bundler points that import here. Tests run one after the other and report as lines on the console.

import { AssertionFailed, type Assertions, assertionsFor } from './assertions.js';

/** What starts a line of the report, so that the other side can tell it from what tests print themselves. */
export const REPORT_PREFIX = '@gearkv-test ';

type Body = (t: ExecutionContext) => unknown;

interface ExecutionContext extends Assertions {
  readonly title: string;
  context: Record<string, unknown>;
  log(...values: unknown[]): void;
  plan(count: number): void;
  teardown(undo: () => unknown): void;
  timeout(ms: number): void;
}

type HookName = 'before' | 'after' | 'beforeEach' | 'afterEach';

interface TestFile {
  name: string;
  tests: { title: string; body: Body | undefined }[];
  hooks: Record<HookName, Body[]>;
}

const files: TestFile[] = [];

function currentFile(): TestFile {
  const file = files.at(-1);
  if (file === undefined) throw new Error('a test was declared outside of a test file');
  return file;
}

function declare(title: string, body: Body): void {
  const file = currentFile();
  if (file.tests.some((other) => other.title === title)) throw new Error(`there are two tests called '${title}'`);
  file.tests.push({ title, body });
}

function hook(name: HookName) {
  const add = (...args: [Body] | [string, Body]): void => {
    currentFile().hooks[name].push(args.at(-1) as Body);
  };
  // Hooks here run whatever happened before, as ava's `.always` asks.
  return Object.assign(add, { always: add });
}

const test = Object.assign((title: string, body: Body) => declare(title, body), {
  serial: Object.assign((title: string, body: Body) => declare(title, body), { skip: skipped }),
  skip: skipped,
  before: hook('before'),
  after: hook('after'),
  beforeEach: hook('beforeEach'),
  afterEach: hook('afterEach'),
});

function skipped(title: string, _body: Body): void {
  currentFile().tests.push({ title, body: undefined });
}

export default test;

/** Loads a test file; what it declares belongs to it. */
export async function loadFile(name: string, load: () => Promise<unknown>): Promise<void> {
  files.push({ name, tests: [], hooks: { before: [], after: [], beforeEach: [], afterEach: [] } });
  try {
    await load();
  } catch (error) {
    report({ event: 'test', file: name, title: 'loading the file', error: describe(error) });
  }
}

/** Runs everything that was loaded. */
export async function runAll(): Promise<void> {
  for (const file of files) await runFile(file);
  report({ event: 'end' });
}

async function runFile(file: TestFile): Promise<void> {
  if (!(await runHooks(file, 'before'))) return;
  for (const { title, body } of file.tests) {
    if (body === undefined) {
      report({ event: 'skip', file: file.name, title });
      continue;
    }
    const error = await runTest(file, title, body);
    report({ event: 'test', file: file.name, title, ...(error !== undefined && { error }) });
  }
  await runHooks(file, 'after');
}

async function runHooks(file: TestFile, name: 'before' | 'after'): Promise<boolean> {
  for (const body of file.hooks[name]) {
    const error = await attempt(`${name} hook`, [body]);
    if (error === undefined) continue;
    report({ event: 'test', file: file.name, title: `${name} hook`, error });
    return false;
  }
  return true;
}

function runTest(file: TestFile, title: string, body: Body): Promise<string | undefined> {
  return attempt(title, [...file.hooks.beforeEach, body], file.hooks.afterEach, true);
}

/** Runs bodies in one context. Returns what went wrong, or undefined. */
async function attempt(
  title: string,
  bodies: readonly Body[],
  cleanup: readonly Body[] = [],
  mustAssert = false,
): Promise<string | undefined> {
  const undo: (() => unknown)[] = [];
  const logged: string[] = [];
  let planned: number | undefined;
  const counter = { made: 0, failures: [] as AssertionFailed[] };
  const t: ExecutionContext = {
    ...assertionsFor(counter),
    title,
    context: {},
    log: (...values) => logged.push(values.map(String).join(' ')),
    plan: (count) => {
      planned = count;
    },
    teardown: (action) => undo.push(action),
    timeout: () => {},
  };
  const errors: unknown[] = [];
  const guarded = async (action: () => unknown) => {
    try {
      await action();
    } catch (error) {
      errors.push(error);
    }
  };
  await guarded(async () => {
    for (const body of bodies) await body(t);
  });
  for (const body of cleanup) await guarded(() => body(t));
  for (const action of undo.reverse()) await guarded(action);
  for (const failure of counter.failures) if (!errors.includes(failure)) errors.unshift(failure);
  if (planned !== undefined && planned !== counter.made) {
    errors.push(new AssertionFailed(`planned ${planned} assertions, made ${counter.made}`));
  }
  if (mustAssert && errors.length === 0 && counter.made === 0) errors.push(new AssertionFailed('made no assertion'));
  if (errors.length === 0) return undefined;
  return [...errors.map(describe), ...logged.map((line) => `log: ${line}`)].join('\n');
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return `threw ${String(error)}`;
  const head = `${error.name}: ${error.message}`;
  const stack = error.stack ?? '';
  return stack.includes(error.message) ? stack : `${head}\n${stack}`;
}

function report(line: Record<string, unknown>): void {
  console.log(REPORT_PREFIX + JSON.stringify(line));
}
