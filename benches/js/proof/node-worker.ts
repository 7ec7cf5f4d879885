// One half of the proof in a process of its own: the request comes as JSON, what was measured goes as JSON.

import { statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { loadFrozen } from 'gear-kv/transformers';
import { peerFolder, requireFrom } from '../peers.js';
import { goOn, loadModel, type Place, see, type Transformers } from './measure.js';
import { fileOf, type Plan } from './plan.js';

const { half, plan, model, folder } = JSON.parse(process.argv[2] ?? '') as {
  half: 'see' | 'go on';
  plan: Plan;
  model: string;
  folder: string;
};
const library = requireFrom(peerFolder('@huggingface/transformers'))('@huggingface/transformers') as Transformers;
library.env.allowRemoteModels = false;
library.env.localModelPath = dirname(model);
const place: Place = {
  library,
  model: await loadModel(library, model, 'cpu'),
  async save(name, frozen) {
    const path = join(folder, fileOf(name));
    await frozen.save(path);
    return statSync(path).size;
  },
  load: (name) => loadFrozen(join(folder, fileOf(name))),
};
process.stdout.write(JSON.stringify(await (half === 'see' ? see(place, plan) : goOn(place, plan))));
