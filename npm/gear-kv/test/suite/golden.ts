// SHA-256 (first half) of the bytes of one key and one value tensor, preset by preset. They are the same on every
// backend, processor and runtime: a difference means that a backend computes something else, or that the codec or the
// format changed. After a deliberate change, `container.test.ts` prints the new ones when it fails.
export const golden: Record<string, string> = {
  'gear-4': '23c474c584e1cc049fce22aee686d7eb 782f57ef52a3ac08a69c18ea96386ab9',
  'gear-3': '4dfd587721422630fb269be62ea6b38a acd834b60804707f5633fe6047a675a8',
  'gear-2': '97c1eeec34c221a2617d03ccabdb5b52 1396315481119a44b401bad33ce7d281',
  'gear-l-4': '966de12c3f15674a8d16b693c02d7dae f4133e32236c9b6d6618eb2336a7cabe',
  'gear-l-3': 'a5626b8a897a542c2938a2cb8d04d0f9 283dbb60f6fb6ce2926dca053eb2eafe',
  'gear-l-2': '2bdea2a43408dc08a0da3ba25bc1e6ba 08f480443068d2b38bc4337ed129d8ef',
  'kivi-4': '9760d7c8e6d7c16b6763971bb5e18fc6 fc8bda2eeaa2cadbf8a948cec5c19019',
  'kivi-2': '1b450361407845106e83a5f20de6a4ad b6ff89ea6611a5e2c5b750a2e443d677',
  'kcvt-4': 'c2b42a6af55b42397f8a2cb54f0a17fc aed3ce36a4779633c32e11779863b8c2',
  'kcvt-2': 'f9086699e3850a0d79bf77d127620107 33e8647656251469ce13800b06460b16',
  'uniform-8': '8fb7660dc8bb94ecfb5fe7c150216eb0 fcecf24eb6e364ec00f21cb17265f123',
  'uniform-4': 'b5c8864c9366f1758780b923bb336c8d 63cdadef529c050ab686d805699c35e1',
  'uniform-2': '54b8b0903dc98c055b0129a8049060df 81581a4d73a08562065fe77ca31647c9',
  'paper-gear-4': 'a459de4bdec9a6aa069105689b02b63f 5864e02501f21dc37ff88674748dbb68',
  'paper-gear-2': '75bcf95cb0e661261ff2a5f6e4a19a8a 132d592b2d31cc5385aba60a58cb6620',
  'paper-gear-l-4': 'bd5b99702c7e8e9e55a6543ec9bc3507 9bb5da458e49647e5d2b451d3a1888c2',
  'paper-gear-l-2': 'a53cdc83c2ef74d39634810c43011c74 104d030f8e53cf589d390f6870c2fd4e',
  float16: 'ae43d8caf22d9e2f02467751c4d22ffe 6c699a1bd4ed680cd8ac1c8f69c24d90',
  float32: 'b5c91b953a4ebe0dd2d0c8973c5234be b973d618ab8c191e48466a51083fbe3e',
};

// The same of a cache, for presets that deal out bits: tokens without queries, with queries, and with queries that attend otherwise. A change
// is printed by `queries.test.ts`.
export const goldenQueried: Record<string, string> = {
  'gear-4': 'd6774b4311c2a421591219e8f48664e9 7646d51828ca0f8dd65a36c3e467d3b5 8f07430d568715e60d19326a70e31573',
  'gear-3': '029af14ca70b2375bfc7761425903838 85c5591d507e5f5f1dc9be86b2a25d4d 861542431c24fb6a7df228619d9ad61a',
  'gear-2': '21bde7cf3361a309499a1772e4c7d76a 4421b04253b50940b0a2fb748dc8ac6f 940496dae124fbcf2f51c426b402e666',
  'gear-l-4': 'da6394bbbde8c55934d10e5208890739 123381d3d7e68bb0828d1e5523b1282d 8c091ac8a381b5e3f2d23de1762a7ddf',
  'gear-l-3': '094994d257f24508c73fe248dcd427ae 72a81b4aae0f97a8af9a4b080e9029e9 93228242a4b294329f148f624a7573e4',
  'gear-l-2': '1d266855bd097029116ae2bbae847574 98c70a29fe2f534f6587c9cf102ad0f4 59c96cb2a8fedbd92dd364a9f04cf830',
};
