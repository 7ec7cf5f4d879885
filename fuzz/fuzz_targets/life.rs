//! Appending, truncating, forking and saving in any order (crates/gearkv-format/tests/fuzzing/life.rs).

#![no_main]

#[path = "../../crates/gearkv-format/tests/fuzzing/life.rs"]
mod life;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| life::run(bytes));
