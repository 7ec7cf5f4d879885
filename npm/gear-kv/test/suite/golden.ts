// SHA-256 (first half) of the bytes of one key and one value tensor, preset by preset. They are the same on every
// backend, processor and runtime: a difference means that a backend computes something else, or that the codec or the
// format changed. After a deliberate change, `container.test.ts` prints the new ones when it fails.
export const golden: Record<string, string> = {
  'gear-4': '8f749a22c1a421d813869c4033b81a04 5822ae04d8534db0f1d90c667eb40488',
  'gear-3': 'b18b3481a116344f97a2c948dbed4dd4 a5085f9799b6a30fefe80c63d0ee675b',
  'gear-2': '9736f68a2d1276dd767e79ffecf44e78 ab2e47c79ea21d6499e3aeb513119e19',
  'gear-l-4': 'b5a9a2940dec3597331680badb21bdd4 6cb2a951d749e32d895d6e9efaa9c516',
  'gear-l-2': '2ae64eca811b04d188df5c87b14c6e16 9b94d98040367bd67bd5679ba0254e2e',
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
