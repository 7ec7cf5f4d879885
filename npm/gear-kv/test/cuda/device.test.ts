// Runs on whatever libcuda there is: scripts/test/cuda.mjs has the one that runs the kernels on the CPU, scripts/gpu-check a GPU's.
import { spawnSync } from 'node:child_process';
import test from 'ava';
import * as gear from 'gear-kv';
import { checks } from './checks.js';

for (const [title, check] of Object.entries(checks)) {
  test(title, async (t) => {
    await check(gear);
    t.pass();
  });
}

interface Told {
  device: { kind: string; reason?: string };
  error?: string;
  saved: boolean;
  attended: boolean;
}

/** What a cache says of itself on a stand-in that lacks something: `env` says what. */
function lacking(env: Record<string, string>, device: string): Told {
  const source = `
    import { GearCache } from 'gear-kv';
    const cache = new GearCache({ layers: 1, kvHeads: 2, headDim: 64, device: '${device}' });
    const tokens = Float32Array.from({ length: 2 * 200 * 64 }, (_, i) => Math.sin(i));
    cache.append(0, tokens, tokens);
    let error;
    let out;
    try { out = cache.attend(0, tokens.subarray(0, 128), { queryHeads: 2 }); } catch ({ code }) { error = code; }
    cache.append(0, tokens.subarray(0, 128), tokens.subarray(0, 128));
    const plain = GearCache.fromBytes(cache.toBytes());
    console.log(JSON.stringify({
      device: cache.device, error, saved: plain.tokens === 201, attended: out !== undefined && out.every(Number.isFinite),
    }));`;
  const all = { ...process.env, ...env };
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', source], { env: all, encoding: 'utf8' });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return JSON.parse(ran.stdout) as Told;
}

const standIn = new gear.GearCache({ layers: 1, kvHeads: 1, headDim: 64, device: 'auto' }).device;
const onStandIn = standIn.kind === 'cuda' && standIn.name === 'stand-in' ? test : test.skip;

onStandIn('a GPU whose memory does not suffice is given up, or the call fails and nothing is lost', (t) => {
  // Enough for an empty layer.
  const little = { GEARKV_STAND_IN_MEMORY: '50000' };
  const auto = lacking(little, 'auto');
  t.is(auto.device.kind, 'cpu');
  t.regex(auto.device.reason ?? '', /the GPU could not/);
  t.true(auto.saved && auto.attended && auto.error === undefined);
  const cuda = lacking(little, 'cuda');
  t.is(cuda.device.kind, 'cuda');
  t.is(cuda.error, 'BACKEND_UNAVAILABLE');
  t.true(cuda.saved && !cuda.attended);
});

for (const [what, env, reason] of [
  ['without a GPU', { GEARKV_STAND_IN_GPUS: '0' }, /the GPU could not be opened/],
  ['that is too old', { GEARKV_STAND_IN_VERSION: '11080' }, /knows CUDA 11\.8; expected 12\.0 or newer/],
] as const) {
  onStandIn(`a driver ${what} is a reason`, (t) => {
    const auto = lacking(env, 'auto');
    t.is(auto.device.kind, 'cpu');
    t.regex(auto.device.reason ?? '', reason);
    t.true(auto.saved && auto.attended);
    const error = t.throws(() => lacking(env, 'cuda'));
    t.regex(error?.message ?? '', /BACKEND_UNAVAILABLE/);
    t.regex(error?.message ?? '', reason);
  });
}
