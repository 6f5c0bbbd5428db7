//! Parses a judge's answer: JSON with a verdict, without guessing.

use serde_json::{Map, Value};

/// Why an answer holds no verdict, in a word that stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    Unparsable,
    TwoVerdicts,
    OffMenu,
}

impl Unread {
    pub fn word(self) -> &'static str {
        match self {
            Unread::Unparsable => "unparsable",
            Unread::TwoVerdicts => "two_verdicts",
            Unread::OffMenu => "off_menu",
        }
    }
}

/// The object in an answer whose `field` is one of `menu`, with that word in lower case. The whole text is tried first,
/// then the one fenced block, then the last object that has the field. Objects that disagree are no verdict.
pub(crate) fn answer(text: &str, field: &str, menu: &[String]) -> Result<(Map<String, Value>, String), Unread> {
    let object = match whole(text).or_else(|| fenced(text)) {
        Some(object) if object.contains_key(field) => object,
        _ => last_with(text, field)?,
    };
    let word = word_of(&object[field]).ok_or(Unread::OffMenu)?;
    match menu.contains(&word) {
        true => Ok((object, word)),
        false => Err(Unread::OffMenu),
    }
}

fn whole(text: &str) -> Option<Map<String, Value>> {
    match score::strict_json(text)? {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// The content of the fenced block, where there is exactly one.
fn fenced(text: &str) -> Option<Map<String, Value>> {
    let mut parts = text.split("```");
    let (_, inside, _, none) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let inside = inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    none.is_none().then(|| whole(inside)).flatten()
}

fn last_with(text: &str, field: &str) -> Result<Map<String, Value>, Unread> {
    let with_field = score::json_objects(text).filter(|found| found.whole && found.object.contains_key(field));
    let mut found: Vec<Map<String, Value>> = with_field.map(|found| found.object).collect();
    let last = found.pop().ok_or(Unread::Unparsable)?;
    let word = word_of(&last[field]);
    match found.iter().all(|other| word_of(&other[field]) == word) {
        true => Ok(last),
        false => Err(Unread::TwoVerdicts),
    }
}

fn word_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_lowercase()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, Unread>) {
        let menu = ["match", "mismatch", "cannot_tell"].map(str::to_owned);
        let read = answer(text, "verdict", &menu).map(|(_, word)| word);
        assert_eq!(read.as_deref().map_err(|unread| *unread), expected, "{text}");
    }

    #[test]
    fn a_verdict_is_read_from_json_fences_or_prose_around_it() {
        check(r#"{"reason": "same", "verdict": "match"}"#, Ok("match"));
        check("```json\n{\"verdict\": \" Match \"}\n```", Ok("match"));
        check(
            "I think so.\n{\"verdict\": \"mismatch\", \"pairs\": [{\"gold\": 1}]} Done.",
            Ok("mismatch"),
        );
        check(
            "{\"verdict\": \"match\"} and again {\"verdict\": \"match\"}",
            Ok("match"),
        );
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_guessed() {
        check("The calls match.", Err(Unread::Unparsable));
        check("", Err(Unread::Unparsable));
        check(r#"{"reason": "no verdict here"}"#, Err(Unread::Unparsable));
        check(
            "{\"verdict\": \"match\"} no: {\"verdict\": \"mismatch\"}",
            Err(Unread::TwoVerdicts),
        );
        check(r#"{"verdict": "probably"}"#, Err(Unread::OffMenu));
        check(r#"{"verdict": true}"#, Err(Unread::OffMenu));
        check(r#"{"verdict": "match""#, Err(Unread::Unparsable));
    }
}
