// ava 7 is the newest that runs on Node 20; tsx compiles the tests as they are loaded.
export default {
  files: [
    'test/suite/**/*.test.ts',
    'test/node/**/*.test.ts',
    'test/cuda/**/*.test.ts',
    'test/llm/**/*.test.ts',
    'test/peers/**/*.test.ts',
    'test/examples/**/*.test.ts',
  ],
  extensions: { ts: 'module' },
  nodeArguments: ['--import=tsx'],
  workerThreads: false,
  concurrency: 2,
  timeout: '5m',
};
