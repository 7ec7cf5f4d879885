// SHA-256 (first half) of the bytes of one key and one value tensor, preset by preset. They are the same on every
// backend, processor and runtime: a difference means that a backend computes something else, or that the codec or the
// format changed. After a deliberate change, `container.test.ts` prints the new ones when it fails.
export const golden: Record<string, string> = {
  'gear-4': '7942720250f389b0ecd6373a0408c641 a25e381db90d38b149888e170cd1e9ec',
  'gear-3': 'e6dba1ede0f7f6c919d3f9df5f555c86 c4906b40f96c532582a2433ccbece03d',
  'gear-2': 'd8d208ddb347839694aff157fad40b26 b6d9d4c9a57f0cf554aa002c7e7b8398',
  'gear-l-4': 'de4e447bbd7f825d63441fe90603c670 2d5b6c11641681fb355638722f7d59e5',
  'gear-l-2': 'd22c1a9cf1cbf0057b41766a9e96d333 04ed319fe247ab200d3f8c922b790af8',
  'kivi-4': '367f188e8792de0154cb041a2d364f2b f747f70f9f7f1b95db0ba8d1dec1654f',
  'kivi-2': '6df5cb4c9e00f2e081e68fb1b5759fd5 68206ea19b26f1d03dcb23fd55e59f9f',
  'kcvt-4': '01545d26443e8ed11d5bf1b71ed58bdc ad894d2c438c862d8e9ee318716783a7',
  'kcvt-2': 'c39dfc2d19b0e1d38131e73b57880a60 84431b19b4a8f4ebd05f136816eee734',
  'uniform-8': '4d4869f5ffa94c72183bf5c2499dc7ff a52ed494f62ec6f1ba4f15d951922fe8',
  'uniform-4': '54c1bdce770dd61b1d316dde14193dd8 51422e3cec746a70e97eac0fce9db027',
  'uniform-2': 'cd3ca33af4bee1682294797ff4dcd058 59ed8b64affa3d41c8d4a01024f5c228',
  'paper-gear-4': 'efb140de3e9191498e887902807c3bd3 fe4e8cdabb2f7e32cd45529cf43e89dc',
  'paper-gear-2': '8c3d161d9ec7d7a4e32ca03b0b59755a 71ec5da127b80a09be8d49b908c82d15',
  'paper-gear-l-4': '240d844e70231384f6e660ca0656561f eb1125ca7e75647ea02979468a3ec1e8',
  'paper-gear-l-2': '1148cce4c6bd6546a7c393cf861a1f35 813ceb060d24401eb1c7fdce43f63d93',
  float16: 'ae43d8caf22d9e2f02467751c4d22ffe 6c699a1bd4ed680cd8ac1c8f69c24d90',
  float32: 'b5c91b953a4ebe0dd2d0c8973c5234be b973d618ab8c191e48466a51083fbe3e',
};
