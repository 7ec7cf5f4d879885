//! What the fuzzers found worth keeping, on every run of the tests: `scripts/fuzz.mjs` looks for more.

#[path = "fuzzing/life.rs"]
mod life;
#[path = "fuzzing/reader.rs"]
mod reader;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for file in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder}: {e}")) {
        run(&std::fs::read(file.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 10, "{folder} holds {count} files");
}

#[test]
fn the_reader_on_its_corpus() {
    replay("reader", reader::run);
}

#[test]
fn the_life_of_a_cache_on_its_corpus() {
    replay("life", life::run);
}
