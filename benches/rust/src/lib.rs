//! What the benchmarks have in common; and of criterion's, how many times faster one thing is than another.

pub mod arguments;
pub mod numbers;
pub mod times;

use std::path::Path;

use gearkv::{GearConfig, GearOptions, Role};

/// A preset on one thread.
///
/// # Panics
/// Where there is none of this name.
pub fn config(preset: &str, role: Role) -> GearConfig {
    let options = GearOptions { preset: Some(preset.into()), threads: Some(1), ..Default::default() };
    options.resolve(role).expect("a preset of this crate")
}

/// Prints `baseline / time` for each benchmark of `group`, read from criterion's own estimates under `criterion_dir`.
///
/// Returns how many were printed; 0 when the group was not run (criterion was given a filter).
pub fn print_ratios(criterion_dir: &Path, group: &str, baseline: &str) -> usize {
    let mean = |name: &str| -> Option<f64> {
        let text = std::fs::read_to_string(criterion_dir.join(group).join(name).join("new/estimates.json")).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()?["mean"]["point_estimate"].as_f64()
    };
    let (Some(base), Ok(entries)) = (mean(baseline), std::fs::read_dir(criterion_dir.join(group))) else { return 0 };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let rows: Vec<(String, f64)> = names.into_iter().filter_map(|name| mean(&name).map(|time| (name, time))).collect();
    println!("\n{group}, against {baseline}");
    for (name, time) in &rows {
        println!("  {name:14} {:>10.1} µs   {:>6.2} x", time / 1e3, base / time);
    }
    rows.len()
}
