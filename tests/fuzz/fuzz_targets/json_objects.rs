//! The lenient JSON reader: what it finds lies in the text, in order, and strict JSON is read as it stands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    let mut from = 0;
    for found in score::json_objects(text) {
        assert!(found.at.start >= from && text.get(found.at.clone()).is_some());
        // In one that was cut short another is looked for, from where a string was left open.
        from = if found.whole { found.at.end } else { found.at.start + 1 };
    }
    if let Some(Value::Object(object)) = score::strict_json(text) {
        let found = score::json_objects(text).next();
        // A reader that gives up on depth or work may find nothing, but never something else.
        assert!(found.is_none_or(|found| found.object.len() == object.len()), "{text:?}");
    }
});
