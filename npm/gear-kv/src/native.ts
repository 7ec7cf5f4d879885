// gear-kv/native: the native module, and an error where it does not load.
import { nativeBackend } from './backend/native.js';
import { useBackends } from './backend/selection.js';

useBackends({ native: { load: nativeBackend } }, ['native']);

export { init as default } from './init.js';
export * from './public.js';
