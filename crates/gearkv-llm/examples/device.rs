//! A GGUF model on one of candle's devices: what a prompt and a step take, and the cache's memory, for some presets in turn.
//!
//! `cargo run --release -p gearkv-llm --features cuda --example device -- model.gguf` on a GPU; with `--features tensors` and `--device cpu` anywhere.
//! Options: `--prompt 4000` tokens, `--tokens 64` to generate, `--presets float16,gear-4`, `--device cuda`.

use std::time::Instant;

use gearkv_llm::candle_core::Device;
use gearkv_llm::gearkv::{GearConfig, GearOptions, NEVER, Role};
use gearkv_llm::{DeviceModel, GenerateOptions, generate};

type Failure = Box<dyn std::error::Error>;

const TEXT: &str = "The ship had been at sea for eleven weeks when the cook found the map. It was folded into the lid of a biscuit tin, and \
                    whoever drew it had known these waters well: every reef had a name, and every name was a warning. ";

fn argument(name: &str, default: &str) -> String {
    let given: Vec<String> = std::env::args().collect();
    let at = given.iter().position(|word| word == name);
    at.and_then(|at| given.get(at + 1)).map_or(default, String::as_str).to_owned()
}

fn config(preset: &str, role: Role) -> gearkv_llm::gearkv::Result<GearConfig> {
    GearOptions { preset: Some(preset.to_owned()), ..Default::default() }.resolve(role)
}

fn device() -> Result<Device, Failure> {
    match argument("--device", if cfg!(feature = "cuda") { "cuda" } else { "cpu" }).as_str() {
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::new_cuda(0)?),
        other => Err(format!("--device is {other:?}; expected cpu or cuda").into()),
    }
}

fn main() -> Result<(), Failure> {
    let path = std::env::args().nth(1).filter(|path| !path.starts_with("--"));
    let path = path.ok_or("expected the path of a GGUF file first")?;
    let (prompt, tokens): (usize, usize) = (argument("--prompt", "4000").parse()?, argument("--tokens", "64").parse()?);
    let device = device()?;
    let start = Instant::now();
    let model = DeviceModel::load(path.as_ref(), &device)?;
    let info = model.info();
    println!(
        "{}: {:.0} MB of weights on {:?}, loaded in {:.1} s",
        info.name.as_deref().unwrap_or(&path),
        info.weight_bytes as f64 / 1e6,
        device.location(),
        start.elapsed().as_secs_f64()
    );
    let once = model.tokenizer().encode(TEXT, true)?;
    let prompt: Vec<u32> = once.iter().copied().cycle().take(prompt).collect();
    println!("{:<14} {:>12} {:>12} {:>10}  text", "preset", "prompt tok/s", "step tok/s", "cache MB");
    for preset in argument("--presets", "float16,gear-4,gear-2,kivi-4").split(',') {
        let mut session = model.session(config(preset, Role::Key)?, config(preset, Role::Value)?)?;
        let start = Instant::now();
        session.prefill(&prompt, NEVER)?;
        let read = start.elapsed().as_secs_f64();
        let options = GenerateOptions { max_tokens: tokens, temperature: 0.0, ignore_end: true, ..Default::default() };
        let start = Instant::now();
        let generated = generate(&mut session, &[], &options, NEVER, &mut |_| {})?;
        let wrote = start.elapsed().as_secs_f64();
        println!(
            "{preset:<14} {:>12.1} {:>12.1} {:>10.1}  {:?}",
            prompt.len() as f64 / read,
            // The last token is not put into the cache.
            generated.tokens.len().saturating_sub(1) as f64 / wrote,
            session.cache_byte_length() as f64 / 1e6,
            generated.text.chars().take(60).collect::<String>()
        );
    }
    Ok(())
}
