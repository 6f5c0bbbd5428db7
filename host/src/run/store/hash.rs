//! Hashes of JSON: what identities and keys are made of.

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The sha256 of a JSON value with its keys in order, so that the same content has the same hash.
pub fn hash_json(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    hex(&hasher.finalize())
}

/// [`hash_json`] of the array of these values, without building that array.
pub fn hash_all(values: &[&Value]) -> String {
    let mut hasher = Sha256::new();
    feed_all(&mut hasher, values.iter().copied());
    hex(&hasher.finalize())
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            hasher.update(b"{");
            for key in keys {
                feed_text(hasher, key);
                hasher.update(b":");
                feed(hasher, &map[key]);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(items) => feed_all(hasher, items),
        other => feed_text(hasher, other),
    }
}

fn feed_all<'a>(hasher: &mut Sha256, items: impl IntoIterator<Item = &'a Value>) {
    hasher.update(b"[");
    for item in items {
        feed(hasher, item);
        hasher.update(b",");
    }
    hasher.update(b"]");
}

/// Every sample is hashed several times, so its words go into the hash without becoming a string first.
fn feed_text(hasher: &mut Sha256, value: &(impl Serialize + ?Sized)) {
    struct Into<'a>(&'a mut Sha256);
    impl std::io::Write for Into<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = serde_json::to_writer(Into(hasher), value);
    debug_assert!(written.is_ok(), "a scalar can always be written");
}

/// The beginning of a text's sha256, for those that hold very many of them.
pub fn short_hash(text: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&Sha256::digest(text)[..16]);
    short
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_order_of_keys_changes_no_hash_and_content_does() {
        let hash = |text: &str| hash_json(&serde_json::from_str(text).unwrap());
        assert_eq!(hash(r#"{"a": 1, "b": [1, 2]}"#), hash(r#"{"b": [1, 2], "a": 1}"#));
        assert_ne!(hash(r#"{"a": 1, "b": [1, 2]}"#), hash(r#"{"a": 1, "b": [2, 1]}"#));
        assert_ne!(hash(r#"["ab", "c"]"#), hash(r#"["a", "bc"]"#));
        let text = r#"["a\n", {"b": [1.5, null, true]}]"#;
        let values: Vec<Value> = serde_json::from_str(text).unwrap();
        assert_eq!(hash(text), hash_all(&[&values[0], &values[1]]));
    }

    /// Records on disk are found by these hashes, so they may never change.
    #[test]
    fn a_hash_is_what_it_was() {
        let value = json!({ "b": ["\u{e9}\n", 1.5, -2, null, true], "a": {} });
        let text = r#"{"a":{},"b":["é\n",1.5,-2,null,true,],}"#;
        assert_eq!(hash_json(&value), hex(&Sha256::digest(text)));
        assert_eq!(hex(&[0, 1, 0x9a, 0xff]), "00019aff");
    }
}
