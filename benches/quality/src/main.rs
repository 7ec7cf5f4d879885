//! Measures what standard input asks for, a [`gearkv_quality::Job`] as JSON, and writes what it finds, one JSON value a line.
//! `npm run quality` asks, and makes tables and a plot of it.

use std::io::{Read, Write};
use std::process::ExitCode;

use gearkv::{ErrorCode, GearError, Result};

fn measure() -> Result<()> {
    let failed =
        |what: &str, e: &dyn std::fmt::Display| GearError::new(ErrorCode::InvalidOption, format!("{what}: {e}"));
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|e| failed("standard input", &e))?;
    let job = serde_json::from_str(&text).map_err(|e| failed("the job", &e))?;
    gearkv_quality::run(&job, &mut |message| {
        let line = serde_json::to_string(&message).unwrap_or_default();
        let mut out = std::io::stdout().lock();
        // Whoever does not listen any more has what it wanted.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    })
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
