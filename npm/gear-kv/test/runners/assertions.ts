// The assertions of ava that the suite uses, with ava's meaning.

import { dequal } from 'dequal';

/** An assertion that did not hold. */
export class AssertionFailed extends Error {
  override name = 'AssertionFailed';
}

/** What `t.throws` may expect of the error. */
export interface ThrowsExpectation {
  any?: boolean;
  code?: string | number;
  instanceOf?: new (...args: never[]) => unknown;
  is?: unknown;
  message?: string | RegExp | ((message: string) => boolean);
  name?: string;
}

/** Counts the assertions of one test and keeps those that failed, even where the test swallowed them. */
export interface AssertionCounter {
  made: number;
  failures: AssertionFailed[];
}

export type Assertions = ReturnType<typeof assertionsFor>;

/** The assertions of one test. */
export function assertionsFor(counter: AssertionCounter) {
  const check = (holds: boolean, what: string, message?: string): true => {
    counter.made += 1;
    if (holds) return true;
    const failure = new AssertionFailed(message === undefined ? what : `${message}: ${what}`);
    counter.failures.push(failure);
    throw failure;
  };
  const thrown = (
    outcome: { error: unknown } | undefined,
    expected: ThrowsExpectation | undefined,
    message?: string,
  ) => {
    if (outcome === undefined) return check(false, 'expected an error, none was thrown', message);
    const mismatch = mismatchOf(outcome.error, expected ?? {});
    check(mismatch === undefined, mismatch ?? '', message);
    return outcome.error;
  };
  return {
    pass: (message?: string) => check(true, 'passed', message),
    fail: (message?: string) => check(false, 'failed', message),
    assert: (value: unknown, message?: string) => check(Boolean(value), `${show(value)} is not truthy`, message),
    truthy: (value: unknown, message?: string) => check(Boolean(value), `${show(value)} is not truthy`, message),
    falsy: (value: unknown, message?: string) => check(!value, `${show(value)} is not falsy`, message),
    true: (value: unknown, message?: string) => check(value === true, `${show(value)} is not true`, message),
    false: (value: unknown, message?: string) => check(value === false, `${show(value)} is not false`, message),
    is: (actual: unknown, expected: unknown, message?: string) =>
      check(Object.is(actual, expected), `got ${show(actual)}, expected ${show(expected)}`, message),
    not: (actual: unknown, expected: unknown, message?: string) =>
      check(!Object.is(actual, expected), `got ${show(actual)}, which was not expected`, message),
    deepEqual: (actual: unknown, expected: unknown, message?: string) =>
      check(dequal(actual, expected), `got ${show(actual)}, expected the like of ${show(expected)}`, message),
    notDeepEqual: (actual: unknown, expected: unknown, message?: string) =>
      check(!dequal(actual, expected), `got ${show(actual)}, which was not expected`, message),
    like: (actual: unknown, selector: object, message?: string) =>
      check(isLike(actual, selector), `${show(actual)} does not contain ${show(selector)}`, message),
    regex: (text: string, pattern: RegExp, message?: string) =>
      check(pattern.test(text), `${show(text)} does not match ${String(pattern)}`, message),
    notRegex: (text: string, pattern: RegExp, message?: string) =>
      check(!pattern.test(text), `${show(text)} matches ${String(pattern)}`, message),
    throws: (body: () => unknown, expected?: ThrowsExpectation, message?: string) => {
      let outcome: { error: unknown } | undefined;
      try {
        body();
      } catch (error) {
        outcome = { error };
      }
      return thrown(outcome, expected, message);
    },
    throwsAsync: async (
      body: Promise<unknown> | (() => PromiseLike<unknown>),
      expected?: ThrowsExpectation,
      message?: string,
    ) => {
      let outcome: { error: unknown } | undefined;
      try {
        await (typeof body === 'function' ? body() : body);
      } catch (error) {
        outcome = { error };
      }
      return thrown(outcome, expected, message);
    },
    notThrows: (body: () => unknown, message?: string) => {
      let problem: string | undefined;
      try {
        body();
      } catch (error) {
        problem = `threw ${show(error)}`;
      }
      check(problem === undefined, problem ?? '', message);
    },
    notThrowsAsync: async (body: Promise<unknown> | (() => PromiseLike<unknown>), message?: string) => {
      let problem: string | undefined;
      try {
        await (typeof body === 'function' ? body() : body);
      } catch (error) {
        problem = `rejected with ${show(error)}`;
      }
      check(problem === undefined, problem ?? '', message);
    },
  };
}

function mismatchOf(error: unknown, expected: ThrowsExpectation): string | undefined {
  if (!(error instanceof Error) && expected.any !== true) return `threw ${show(error)}, which is not an Error`;
  const { message, name, code } = error as { message: string; name: string; code?: unknown };
  if ('is' in expected && error !== expected.is) return `threw ${show(error)}, expected ${show(expected.is)}`;
  if (expected.instanceOf !== undefined && !(error instanceof expected.instanceOf)) {
    return `threw ${show(error)}, which is not a ${expected.instanceOf.name}`;
  }
  if (expected.name !== undefined && name !== expected.name) return `threw a ${name}, expected a ${expected.name}`;
  if (expected.code !== undefined && code !== expected.code) {
    return `threw ${show(error)} with code ${show(code)}, expected ${show(expected.code)}`;
  }
  const wanted = expected.message;
  if (wanted === undefined) return undefined;
  const matches =
    typeof wanted === 'string' ? message === wanted : wanted instanceof RegExp ? wanted.test(message) : wanted(message);
  return matches ? undefined : `threw '${message}', expected a message like ${String(wanted)}`;
}

function isLike(actual: unknown, selector: unknown): boolean {
  if (typeof selector !== 'object' || selector === null) return Object.is(actual, selector);
  if (typeof actual !== 'object' || actual === null) return false;
  return Object.entries(selector).every(([key, value]) => isLike((actual as Record<string, unknown>)[key], value));
}

function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value instanceof Error) return `${value.name} '${value.message}'`;
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    const numbers = value as unknown as ArrayLike<number> & { slice(begin: number, end: number): ArrayLike<number> };
    const more = numbers.length > 8 ? ', …' : '';
    return `${value.constructor.name}(${numbers.length}) [${Array.from(numbers.slice(0, 8)).join(', ')}${more}]`;
  }
  if (typeof value !== 'object' || value === null) return String(value);
  try {
    return JSON.stringify(value).slice(0, 500);
  } catch {
    return String(value);
  }
}
