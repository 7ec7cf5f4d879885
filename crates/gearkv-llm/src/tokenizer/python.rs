//! What templates expect of the library that usually renders them, which is Python's: its JSON and its dates.

use std::fmt::Write;
use std::io;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{Formatter, PrettyFormatter};
use web_time::{SystemTime, UNIX_EPOCH};

/// `json.dumps` on one line has a space behind commas and colons; models have learned from texts that have it, too.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

fn failed(what: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{what}: {error}"))
}

/// `tojson`, which escapes nothing for HTML. `indent` is the only option that means something here.
pub(super) fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    const WIDEST: usize = 16;
    let indent: Option<usize> = options.get("indent")?;
    let _: (Option<bool>, Option<bool>) = (options.get("ensure_ascii")?, options.get("sort_keys")?);
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    let mut out = Vec::new();
    let written = match indent {
        Some(n) => {
            let indent = [b' '; WIDEST];
            let formatter = PrettyFormatter::with_indent(&indent[..n.min(WIDEST)]);
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
    };
    written.map_err(|e| failed("tojson", e))?;
    String::from_utf8(out).map(Value::from_safe_string).map_err(|e| failed("tojson", e))
}

/// `strftime_now(format)`: the date and time, in UTC.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let now = chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(0), 0).unwrap_or_default();
    let mut out = String::new();
    // A format that is not one is an error of `write`, and would be a panic of `to_string`.
    write!(out, "{}", now.format(format)).map_err(|_| failed("strftime_now does not know the format", format))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_bad_formats_are_errors() {
        let date = strftime_now("%d %b %Y").unwrap();
        assert_eq!(date.len(), 11, "{date}");
        let year: u32 = date[7..].parse().unwrap();
        assert!(year >= 2024, "{date}");
        assert_eq!(strftime_now("100 %%").unwrap(), "100 %");
        assert!(strftime_now("%Q%").is_err());
    }
}
