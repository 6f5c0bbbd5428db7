//! Python's extensions of JSON: NaN and infinities, numbers that are too large, lone surrogates.
//!
//! Files of likelihoods are full of the first, and people expect us to read what Python reads. Such numbers become
//! text that [`crate::Row::number`] reads as the same number; lone surrogates become U+FFFD.

use serde_json::Value;

/// Parses a text; an error is about the original text.
pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Value> {
    let strict = serde_json::from_slice(text);
    strict.or_else(|why| match to_json(text) {
        Some(json) => serde_json::from_slice(&json).map_err(|_| why),
        None => Err(why),
    })
}

/// Rewrites the text as JSON; none if there is nothing to rewrite.
fn to_json(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len() + 64);
    let (mut at, mut changed, mut quoted) = (0, false, false);
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let (taken, written): (usize, &[u8]) = match byte {
            b'"' => {
                quoted = !quoted;
                (1, &rest[..1])
            }
            b'\\' if quoted => escape(rest),
            _ if quoted => (1, &rest[..1]),
            b'N' if rest.starts_with(b"NaN") => (3, b"\"NaN\""),
            b'I' if rest.starts_with(b"Infinity") => (8, b"\"Infinity\""),
            b'-' if rest.starts_with(b"-Infinity") => (9, b"\"-Infinity\""),
            b'-' | b'0'..=b'9' => number(rest),
            _ => (1, &rest[..1]),
        };
        changed |= written != &rest[..taken];
        plain.extend_from_slice(written);
        at += taken;
    }
    changed.then_some(plain)
}

/// A number, which may be too large for an f64.
fn number(rest: &[u8]) -> (usize, &[u8]) {
    let of_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    let length = rest.iter().take_while(|byte| of_number(byte)).count();
    let value: Option<f64> = std::str::from_utf8(&rest[..length])
        .ok()
        .and_then(|word| word.parse().ok());
    match value {
        Some(f64::INFINITY) => (length, b"\"Infinity\""),
        Some(f64::NEG_INFINITY) => (length, b"\"-Infinity\""),
        _ => (length, &rest[..length]),
    }
}

/// An escape within a string, together with the second half of a surrogate pair.
fn escape(rest: &[u8]) -> (usize, &[u8]) {
    match (half(rest), rest.get(6..).and_then(half)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, &rest[..12]),
        (Some(0xd800..=0xdfff), _) => (6, b"\\ufffd"),
        (Some(_), _) => (6, &rest[..6]),
        _ => (rest.len().min(2), &rest[..rest.len().min(2)]),
    }
}

fn half(rest: &[u8]) -> Option<u16> {
    let digits = rest.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::to_json;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let found = to_json(text.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn numbers_that_json_has_not() {
        check(
            "[NaN, -Infinity,Infinity, 1]",
            Some(r#"["NaN", "-Infinity","Infinity", 1]"#),
        );
        check("[1e999, -1e400, 1e300]", Some(r#"["Infinity", "-Infinity", 1e300]"#));
        check(r#"{"a": "NaN 1e999", "b\"": "Infinity"}"#, None);
        check("[1, -2.5e-3, 12345678901234567890123]", None);
    }

    #[test]
    fn halves_of_characters() {
        check(r#""\ud83d\ude00 \u00e9 \n \\ud83d""#, None);
        check(r#""\ud83d""#, Some(r#""\ufffd""#));
        check(r#""\ude00\ud83d x""#, Some(r#""\ufffd\ufffd x""#));
    }

    #[test]
    fn what_is_broken_stays_so() {
        for text in ["", "\"", "\"\\", "\"\\u12", "{", "\"\\ud8", "-", "Na"] {
            check(text, None);
        }
    }
}
