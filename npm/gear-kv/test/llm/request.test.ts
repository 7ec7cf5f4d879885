// Answers of web servers, piece by piece: who is silent for too long is the server, and never the one that reads.
import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { ask, pieces, Transient } from '../../src/llm/request.js';
import { server } from './server.js';

const SILENCE_MS = 400;
const SIZE = 2_000_000;

test('who takes long for each piece still gets all of them', async (t) => {
  const { url } = await server(t, (_, response) => response.end(Buffer.alloc(SIZE)));
  const response = await ask(new URL(url), {});
  let received = 0;
  let waits = 0;
  for await (const piece of pieces(response, 'here', undefined, SILENCE_MS)) {
    received += piece.length;
    if (waits++ < 3) await pause(1.5 * SILENCE_MS);
  }
  t.is(received, SIZE);
  t.true(waits > 3, 'it came in few pieces, and nothing was waited for');
});

test('a server that sends half and then nothing fell silent', async (t) => {
  const { url } = await server(t, (_, response) => {
    response.setHeader('content-length', SIZE);
    response.write(Buffer.alloc(SIZE / 2));
  });
  const response = await ask(new URL(url), {});
  const reading = async (): Promise<void> => {
    for await (const piece of pieces(response, 'here', undefined, SILENCE_MS)) t.true(piece.length > 0);
  };
  const error = await t.throwsAsync(reading, { instanceOf: Transient });
  t.is(error?.message, 'here fell silent for 0.4 s');
});
