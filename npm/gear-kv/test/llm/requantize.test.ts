// The same model with weights of another type.
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GearModel, requantizeModel } from 'gear-kv/llm';
import { emptyFolder } from '../node/command.js';
import { rejects } from '../suite/support.js';
import { model, modelPath, story, withModel } from './talking.js';

withModel('a model in other weights says nearly the same, and float16 of four bits just that', async (t) => {
  const [folder, source] = [emptyFolder(), modelPath as string];
  const exact = await (await model()).perplexity(story, { cache: 'float16' });
  for (const weights of ['F16', 'Q8_0', 'Q4_K_M'] as const) {
    const file = join(folder, `${weights}.gguf`);
    const seen: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }) => void seen.push(done / total);
    const written = await requantizeModel(source, file, { weights, onProgress });
    t.is(seen.at(-1), 1);
    t.is(written.fileBytes, statSync(file).size);
    t.true(weights !== 'Q4_K_M' || (written.to['Q5_0'] ?? 0) > 0, JSON.stringify(written.to));
    using other = await GearModel.load(file);
    t.is(other.info.layers, 30);
    const { perplexity } = await other.perplexity(story, { cache: 'float16' });
    const most = { F16: 1e-3, Q8_0: 0.02, Q4_K_M: 0.1 }[weights];
    t.true(Math.abs(perplexity / exact.perplexity - 1) < most, `${weights}: ${perplexity}, ${exact.perplexity}`);
  }
});

withModel('what cannot be written leaves nothing behind', async (t) => {
  const [folder, source] = [emptyFolder(), modelPath as string];
  const file = join(folder, 'new.gguf');
  await rejects(t, 'INVALID_OPTION', () => requantizeModel(source, file, { weights: 'Q9' as never }), /Q9.*Q4_K_M/);
  await rejects(t, 'INVALID_OPTION', () => requantizeModel(source, file, {} as never), /weights is undefined/);
  await rejects(t, 'IO_FAILED', () => requantizeModel(join(folder, 'none'), file, { weights: 'F16' }), /none/);
  await rejects(
    t,
    'IO_FAILED',
    () => requantizeModel(source, join(folder, 'no/such'), { weights: 'Q8_0' }),
    /no\/such/,
  );
  await rejects(t, 'CORRUPT_DATA', () => requantizeModel(import.meta.filename, file, { weights: 'F16' }), /GGUF/);
  const reason = new Error('enough');
  const stopped = requantizeModel(source, file, { weights: 'F16', signal: AbortSignal.abort(reason) });
  t.is(await t.throwsAsync(stopped), reason);
  t.deepEqual(readdirSync(folder), []);
});
