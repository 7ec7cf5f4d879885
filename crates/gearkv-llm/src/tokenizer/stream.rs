//! Text from tokens that come one by one.

use super::Tokenizer;

/// Never gives half a character: bytes wait until theirs is complete.
#[derive(Debug, Clone, Default)]
pub struct StreamDecoder {
    waiting: Vec<u8>,
}

impl StreamDecoder {
    /// What is complete with this token.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> String {
        self.push_bytes(tokenizer.piece(token))
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.waiting.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text += valid;
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text += &String::from_utf8_lossy(valid);
                    rest = after;
                    match error.error_len() {
                        // The beginning of a character.
                        None => break,
                        Some(n) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &rest[n..];
                        }
                    }
                }
            }
        }
        self.waiting = rest.to_vec();
        text
    }

    /// What is left when no more tokens come: nothing, or U+FFFD for a character that was never completed.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.waiting).into_owned();
        self.waiting.clear();
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_come_whole() {
        let mut decoder = StreamDecoder::default();
        let text = "aé€🦀";
        let pieces: Vec<String> = text.bytes().map(|byte| decoder.push_bytes(&[byte])).collect();
        assert_eq!(pieces, ["a", "", "é", "", "", "€", "", "", "", "🦀"]);
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut decoder = StreamDecoder::default();
        assert_eq!(decoder.push_bytes(&[b'a', 0xFF, b'b', 0xE2]), "a\u{FFFD}b");
        assert_eq!(decoder.push_bytes(b"c"), "\u{FFFD}c");
        decoder.push_bytes(&[0xF0]);
        assert_eq!(decoder.finish(), "\u{FFFD}");
    }
}
