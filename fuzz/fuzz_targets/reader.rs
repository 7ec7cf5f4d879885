//! The reader of `.gear` files (crates/gearkv-format/tests/fuzzing/reader.rs).

#![no_main]

#[path = "../../crates/gearkv-format/tests/fuzzing/reader.rs"]
mod reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| reader::run(bytes));
