//! The bytes that each token stands for.

use std::collections::HashMap;

use super::TokenKind;

/// GPT-2's names for bytes: printable ones are themselves, the others are characters from U+0100 on, in order.
fn byte_names() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| {
            if printable(byte) {
                return (char::from(byte), byte);
            }
            let name = char::from_u32(next).unwrap_or(char::REPLACEMENT_CHARACTER);
            next += 1;
            (name, byte)
        })
        .collect()
}

pub(super) fn byte_level(tokens: &[String], kinds: &[TokenKind]) -> Vec<Vec<u8>> {
    let names = byte_names();
    let bytes_of = |(token, kind): (&String, &TokenKind)| match kind {
        TokenKind::Control | TokenKind::Unknown => Vec::new(),
        TokenKind::UserDefined => token.clone().into_bytes(),
        // A character that names no byte can only stand for itself.
        _ => {
            token.chars().flat_map(|c| names.get(&c).map_or_else(|| c.to_string().into_bytes(), |&b| vec![b])).collect()
        }
    };
    tokens.iter().zip(kinds).map(bytes_of).collect()
}

pub(super) fn sentence_piece(tokens: &[String], kinds: &[TokenKind]) -> Vec<Vec<u8>> {
    let bytes_of = |(token, kind): (&String, &TokenKind)| match kind {
        TokenKind::Control | TokenKind::Unknown => Vec::new(),
        TokenKind::UserDefined => token.clone().into_bytes(),
        TokenKind::Byte => byte_of(token).map_or_else(Vec::new, |byte| vec![byte]),
        TokenKind::Normal => token.replace('▁', " ").into_bytes(),
    };
    tokens.iter().zip(kinds).map(bytes_of).collect()
}

/// `<0x0A>`
fn byte_of(token: &str) -> Option<u8> {
    u8::from_str_radix(token.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_name_of_its_own() {
        let names = byte_names();
        assert_eq!(names.len(), 256);
        assert_eq!(names[&'Ġ'], b' ');
        assert_eq!(names[&'Ċ'], b'\n');
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("x"), None);
    }
}
