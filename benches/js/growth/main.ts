// How times grow with tokens, head_dim, rank, bits and threads: `npm run bench:growth`, `-- --help` for more. Each point is measured in a process of its own
// and recorded at once, so that a run that was interrupted goes on where it ended.

import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { backend } from 'gear-kv/native';
import { draw } from './plots.js';
import { AXIS_NAMES, type Axis, keyOf, type Point, pointsOf } from './points.js';
import { type GrowthRecord, lastRecord, type PointRow, recorded, save, thisMachine } from './record.js';

const HELP = `npm run bench:growth -- [options]

  --axis NAME   only this axis; may be given several times: ${AXIS_NAMES.join(', ')}
  --fresh       forgets what is recorded, all of it, or that of the axes that are named
  --draw        measures nothing: draws what is recorded
  --json        the record as JSON on standard output, progress on standard error
  --help        this

Points that benches/report/growth.json has are not measured again. The largest need 4 GB of memory.`;

const { values } = parseArgs({
  options: {
    axis: { type: 'string', multiple: true, default: AXIS_NAMES },
    fresh: { type: 'boolean', default: false },
    draw: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const worker = fileURLToPath(new URL('./worker.ts', import.meta.url));

function measured(point: Point): PointRow[] {
  console.error(`${keyOf(point)}: ${point.series.length} caches of ${point.tokens} tokens …`);
  const { stdout, status } = spawnSync(process.execPath, ['--import=tsx', worker, JSON.stringify(point)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status !== 0) throw new Error(`${keyOf(point)} failed with ${status}`);
  return JSON.parse(stdout) as PointRow[];
}

function measureMissing(axes: readonly Axis[]): GrowthRecord {
  const all = axes.length === AXIS_NAMES.length;
  const record = recorded(thisMachine(backend().simd, availableParallelism()), values.fresh && all);
  const points = axes.flatMap(pointsOf);
  if (values.fresh) for (const point of points) delete record.points[keyOf(point)];
  for (const point of points) {
    if (record.points[keyOf(point)] !== undefined) continue;
    record.points[keyOf(point)] = measured(point);
    save(record);
  }
  return record;
}

if (values.help) {
  console.log(HELP);
} else {
  const unknown = values.axis.filter((name) => !AXIS_NAMES.includes(name as Axis));
  if (unknown.length > 0) throw new Error(`--axis is ${unknown.join(', ')}; expected ${AXIS_NAMES.join(', ')}`);
  const record = values.draw ? lastRecord() : measureMissing(values.axis as Axis[]);
  for (const file of await draw(record)) console.error(`drawn: ${file}`);
  if (values.json) console.log(JSON.stringify(record, null, 2));
}
