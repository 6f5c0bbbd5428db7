//! Finds JSON objects in a model's text: within prose, in a code fence, slightly wrong, or truncated.
//!
//! It accepts words and fences around the object, trailing commas, single and typographic quotes, keys without quotes,
//! Python's `True`, `False` and `None`, comments, raw line breaks in strings, and a missing end, where everything open
//! is closed. It accepts nothing else. A bare word is never taken for a value: that would be a guess.
//!
//! The decision a newcomer would question: work is limited, not only depth. A hostile text can make a parser that
//! starts again at every brace take quadratic time; this one stops instead.

mod reader;

use reader::Reader;
use serde_json::{Map, Value};
use std::ops::Range;

/// An object in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundObject {
    /// Its contents; if a key occurs twice, the last value counts, as in every common parser.
    pub object: Map<String, Value>,
    /// Its place: bytes of the text.
    pub at: Range<usize>,
    /// False when the text ended before the object did.
    pub whole: bool,
}

/// The objects in a text, in order; nested objects are part of the outer one.
///
/// ```
/// let reply = "Sure!\n```json\n{'action': 'set', \"at\": [6, 7,],}\n```\nAnything else? {\"cut\": [1, {\"off\":
/// \"her"; let found: Vec<_> = score::json_objects(reply).collect();
/// assert_eq!(serde_json::to_string(&found[0].object).unwrap(), r#"{"action":"set","at":[6,7]}"#);
/// assert_eq!(serde_json::to_string(&found[1].object).unwrap(), r#"{"cut":[1,{"off":"her"}]}"#);
/// assert_eq!((found[0].whole, found[1].whole), (true, false));
/// ```
pub fn json_objects(text: &str) -> JsonObjects<'_> {
    JsonObjects {
        text,
        from: 0,
        work: 0,
        allowed: text.len().saturating_mul(WORK_PER_BYTE).saturating_add(4096),
    }
}

/// A text that is one JSON value, by the standard.
pub fn strict_json(text: &str) -> Option<Value> {
    serde_json::from_str(text.trim()).ok()
}

/// How often a byte may be looked at, on average. In ordinary replies each is looked at once or twice.
const WORK_PER_BYTE: usize = 16;

/// The iterator of [`json_objects`].
#[derive(Debug, Clone)]
pub struct JsonObjects<'a> {
    text: &'a str,
    from: usize,
    work: usize,
    allowed: usize,
}

impl Iterator for JsonObjects<'_> {
    type Item = FoundObject;

    fn next(&mut self) -> Option<FoundObject> {
        while self.work < self.allowed {
            let start = self.from + self.text.get(self.from..)?.find('{')?;
            let mut reader = Reader::new(self.text, start);
            let object = reader.object(0);
            self.work = self.work.saturating_add(reader.work());
            match object {
                Ok(object) => {
                    // An open quote may have swallowed the rest of the text, which may contain a valid object.
                    self.from = reader.open_string.unwrap_or(reader.at);
                    return Some(FoundObject {
                        object,
                        at: start..reader.at,
                        whole: !reader.cut,
                    });
                }
                Err(_) => self.from = start + 1,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
