//! `wasm-bindgen-stand-in INPUT.wasm OUT_DIR OUT_NAME`: the `--target web` output of the wasm-bindgen command.
//! Building this takes half a minute; installing wasm-pack and wasm-bindgen-cli takes ten.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, out_dir, out_name] = arguments.as_slice() else {
        return Err("expected three arguments: INPUT.wasm OUT_DIR OUT_NAME".into());
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(input).out_name(out_name).web(true)?.typescript(true);
    bindgen.generate(out_dir)?;
    Ok(())
}
