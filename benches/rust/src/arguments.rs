//! What follows names on the command line.

/// What follows `name`.
pub fn text(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

/// The number that follows `name`; `None` where there is none, or no number.
pub fn number(name: &str) -> Option<usize> {
    text(name)?.parse().ok()
}

/// The names, parted by commas, that follow `name`.
pub fn list(name: &str) -> Option<Vec<String>> {
    text(name).map(|names| names.split(',').map(str::to_owned).collect())
}

/// Whether `name` is there.
pub fn has(name: &str) -> bool {
    std::env::args().any(|argument| argument == name)
}
