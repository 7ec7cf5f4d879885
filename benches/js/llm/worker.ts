// One measurement in a process of its own, so that peak memory is its own: the task comes as JSON, the row goes as JSON.
import { runGear } from './gear.js';
import { runLlama } from './llama.js';
import type { Task } from './rows.js';

const task = JSON.parse(process.argv[2] ?? '') as Task;
const row = await (task.engine === 'gear-kv' ? runGear(task) : runLlama(task));
process.stdout.write(`${JSON.stringify(row)}\n`);
process.exit(0);
