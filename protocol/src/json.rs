//! The one scan that every text passes before it is believed.
//!
//! Event bodies, metadata and profiles are kept as the text they came as, so the parser never looks inside
//! them. What a later reader could trip over is refused here instead: nesting deeper than [`MAX_DEPTH`] and
//! `\u` escapes that are half of a surrogate pair. Whether the text is well-formed JSON is the parser's business.

use memchr::memchr2;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt;

/// Deepest nesting of arrays and objects that is accepted.
pub const MAX_DEPTH: usize = 64;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Arrays and objects are nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A `\u` escape is half of a surrogate pair, which is no character.
    LoneSurrogate,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(f, "JSON is nested deeper than {MAX_DEPTH} levels"),
            Self::LoneSurrogate => f.write_str("JSON has a \\u escape that is half of a surrogate pair"),
        }
    }
}

impl std::error::Error for Fault {}

/// A string inside a text that is borrowed from it, unless it has escapes. Inside an `Option`, a `Cow` alone is always a copy.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Scans `text` once, in time proportional to its length.
///
/// # Errors
/// The first [`Fault`] found.
pub fn check(text: &str) -> Result<(), Fault> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = string(bytes, at)?,
            _ => {}
        }
    }
    Ok(())
}

/// Reads an object. An array is refused: serde would take it for an object whose members have no names.
///
/// # Errors
/// What is wrong, in a sentence without its end.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    check(text).map_err(|fault| fault.to_string())?;
    checked_object(text)
}

/// As [`object`], of a part of a text that has passed [`check`].
///
/// # Errors
/// What is wrong, in a sentence without its end.
pub fn checked_object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    if text.trim_start().starts_with('[') {
        return Err("it must be an object, not an array".into());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Reads a string that begins at `at`; where it ends.
fn string(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    loop {
        let Some(found) = memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) else { return Ok(bytes.len()) };
        at += found + 1;
        if bytes.get(at - 1) == Some(&b'"') {
            return Ok(at);
        }
        at = escape(bytes, at)?;
    }
}

/// Reads the escape whose backslash ends before `at`, and the second half if it is a surrogate pair.
fn escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    if bytes.get(at) != Some(&b'u') {
        return Ok(at + 1);
    }
    match unit(bytes, at + 1) {
        Some(0xD800..=0xDBFF) => {
            let low = (bytes.get(at + 5..at + 7) == Some(b"\\u")).then(|| unit(bytes, at + 7)).flatten();
            match low {
                Some(0xDC00..=0xDFFF) => Ok(at + 11),
                _ => Err(Fault::LoneSurrogate),
            }
        }
        Some(0xDC00..=0xDFFF) => Err(Fault::LoneSurrogate),
        // What is no four hexadecimal digits is the parser's to refuse.
        _ => Ok(at + 1),
    }
}

fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_is_counted_outside_strings_only() {
        assert_eq!(check(&format!("{}{}", "[".repeat(64), "]".repeat(64))), Ok(()));
        assert_eq!(check(&format!("{}{}", "[".repeat(65), "]".repeat(65))), Err(Fault::TooDeep));
        assert_eq!(check(&format!("\"{}\"", "[".repeat(500))), Ok(()));
        assert_eq!(check(&format!(r#""\"{}""#, "[".repeat(500))), Ok(()));
    }

    #[test]
    fn surrogates_must_come_in_pairs() {
        assert_eq!(check(r#""\ud83d\ude00""#), Ok(()));
        for lone in [r#""\ud83d""#, r#""\ud83dx""#, r#""\ude00""#, r#""\ud83d\n""#, r#""\ud83d\ud83d""#] {
            assert_eq!(check(lone), Err(Fault::LoneSurrogate), "{lone}");
        }
        assert_eq!(check(r#""\\ud83d""#), Ok(()), "an escaped backslash starts no escape");
    }

    #[test]
    fn text_is_borrowed_unless_it_has_escapes() {
        let read = |text| serde_json::from_str::<[Option<Text<'_>>; 1]>(text).map(|[text]| text);
        assert!(matches!(read(r#"["plain"]"#), Ok(Some(Text(Cow::Borrowed("plain"))))));
        assert!(matches!(read(r#"["a\"b"]"#), Ok(Some(Text(Cow::Owned(text)))) if text == "a\"b"));
        assert!(matches!(read("[null]"), Ok(None)));
        assert!(read("[7]").unwrap_err().to_string().contains("expected a string"));
    }

    proptest! {
        #[test]
        fn any_string_that_serde_writes_passes(text: String) {
            prop_assert_eq!(check(&serde_json::to_string(&text).unwrap()), Ok(()));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = check(&text);
        }
    }
}
