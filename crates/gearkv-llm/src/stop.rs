//! Texts that end an answer, also where they come in pieces.

use gearkv::{ErrorCode, GearError, Result};

/// Holds text back while it may be the beginning of a stop string.
#[derive(Debug, Clone)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    held: String,
}

impl StopStrings {
    pub fn new(stops: &[String]) -> Result<Self> {
        if stops.iter().any(String::is_empty) {
            return Err(GearError::new(ErrorCode::InvalidOption, "a stop string is empty; expected a text"));
        }
        Ok(Self { stops: stops.to_vec(), held: String::new() })
    }

    /// What is certain of the text so far and was not given yet, and whether a stop string came.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held += text;
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let may_begin_stop = |rest: &str| self.stops.iter().any(|stop| stop.starts_with(rest));
        let keep = self.held.char_indices().map(|(at, _)| at).find(|&at| may_begin_stop(&self.held[at..]));
        let rest = self.held.split_off(keep.unwrap_or(self.held.len()));
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back in vain.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_string_in_pieces_is_found_and_what_is_none_comes_out() {
        let mut stops = StopStrings::new(&["</end>".into(), "STOP".into()]).unwrap();
        assert_eq!(stops.push("a <"), ("a ".into(), false));
        assert_eq!(stops.push("/x </en"), ("</x ".into(), false));
        assert_eq!(stops.push("e ST"), ("</ene ".into(), false));
        assert_eq!(stops.push("OP more"), (String::new(), true));
        let mut stops = StopStrings::new(&["ab".into()]).unwrap();
        assert_eq!(stops.push("xa"), ("x".into(), false));
        assert_eq!(stops.finish(), "a");
        assert_eq!(StopStrings::new(&[String::new()]).unwrap_err().code(), ErrorCode::InvalidOption);
    }
}
