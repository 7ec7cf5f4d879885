//! Packs the PTX: embedded as it is, it would be most of a program that has it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const BEST: u8 = 10;

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    for name in ["gear.compute_75.ptx", "gear.compute_80.ptx"] {
        let source = Path::new("kernels").join(name);
        println!("cargo::rerun-if-changed={}", source.display());
        let packed = miniz_oxide::deflate::compress_to_vec(&fs::read(&source)?, BEST);
        fs::write(out.join(name).with_extension("ptx.deflate"), packed)?;
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
