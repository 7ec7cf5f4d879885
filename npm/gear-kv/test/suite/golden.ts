// SHA-256 (first half) of the bytes of one key and one value tensor, preset by preset. They are the same on every
// backend, processor and runtime: a difference means that a backend computes something else, or that the codec or the
// format changed. After a deliberate change, `container.test.ts` prints the new ones when it fails.
export const golden: Record<string, string> = {
  'gear-4': '23c474c584e1cc049fce22aee686d7eb 782f57ef52a3ac08a69c18ea96386ab9',
  'gear-3': '4dfd587721422630fb269be62ea6b38a 8f105fa8a666d2b10129fd9f098b2b1f',
  'gear-2': '97c1eeec34c221a2617d03ccabdb5b52 51f910b0080209703b4c1faa167ae1a4',
  'gear-l-4': '966de12c3f15674a8d16b693c02d7dae f4133e32236c9b6d6618eb2336a7cabe',
  'gear-l-3': 'a5626b8a897a542c2938a2cb8d04d0f9 13f3303b06fad99a767f473ecfc3a57d',
  'gear-l-2': '2bdea2a43408dc08a0da3ba25bc1e6ba 59f81dbfc2cc8b988d97c8de0f479c62',
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
  'gear-4': 'd6774b4311c2a421591219e8f48664e9 149402a75a48d3f5b0f717c973a137db 8f8801c9c4cd80b951578f7949928b5a',
  'gear-3': '2c810224cac46a2b6a56c9c900e89f11 95ba0030ff14c7163e907297c88c875f 073048ec29bcdf9a1a574f635bec91ab',
  'gear-2': 'e6d6ba7f8afd88c1a7853c65bbf2f938 3598ab4d3d7095020e0000907d000a4d 5f0db447576e98980d472eeb2f64eaee',
  'gear-l-4': 'da6394bbbde8c55934d10e5208890739 7607b9c057a4fce5492c531255f739e1 8f4994681f14b932cbaa37dc82aa4a3f',
  'gear-l-3': 'ca0cf01072480a31cf64d8807302bb06 2695243f61375adf941c76c9ab649f65 4fc9fb29c8ae624e799daf2c53518a37',
  'gear-l-2': 'd2c2565bd27f50e3b885750e89e51871 5ad3052813503a07855459fe66b13ff6 aa8332e4f0ca353ce1ccaba2158070f6',
};
