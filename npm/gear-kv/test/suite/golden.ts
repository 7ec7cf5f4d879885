// SHA-256 (first half) of the bytes of one key and one value tensor, preset by preset. They are the same on every
// backend, processor and runtime: a difference means that a backend computes something else, or that the codec or the
// format changed. After a deliberate change, `container.test.ts` prints the new ones when it fails.
export const golden: Record<string, string> = {};
