//! Canonical JSON, whose hash identifies a value.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A value with sorted keys, without blanks, and with UTF-8 unescaped.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for (number, key) in keys.into_iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                text.push_str(&scalar(&Value::String(key.clone())));
                text.push(':');
                write(text, &map[key]);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (number, item) in items.iter().enumerate() {
                if number > 0 {
                    text.push(',');
                }
                write(text, item);
            }
            text.push(']');
        }
        other => text.push_str(&scalar(other)),
    }
}

fn scalar(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The key of a call: a hash of everything that its answer depends on. Keys of services, time limits and prices are
/// not part of it.
pub fn call_key(dialect: &str, host: &str, model: &str, body: &Value, repeat: u64) -> String {
    let named = serde_json::json!({
        "v": 1, "dialect": dialect, "host": host, "model": model, "body": body, "repeat": repeat,
    });
    sha256_hex(canonical(&named).as_bytes())
}

/// The SHA-256 of some bytes, in lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    let both = |byte: &u8| [digit(byte >> 4), digit(byte & 15)];
    bytes.iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The value is from the specification of the ledger.
    #[test]
    fn a_call_is_named_by_what_is_asked() {
        let body = json!({
            "generationConfig": { "thinkingConfig": { "thinkingLevel": "LOW" }, "maxOutputTokens": 4096 },
            "contents": [{ "role": "user", "parts": [{ "text": "Größe?" }] }],
        });
        let key = call_key(
            "gemini",
            "generativelanguage.googleapis.com",
            "gemini-3.8-flash",
            &body,
            0,
        );
        assert_eq!(key, "614be1bd2188dc2c9542294dc52dece3de4a03251fc70cd927ed7a4511025db5");
        let again = call_key(
            "gemini",
            "generativelanguage.googleapis.com",
            "gemini-3.8-flash",
            &body,
            1,
        );
        assert_ne!(key, again);
    }
}
