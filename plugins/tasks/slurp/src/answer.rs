//! Parses the labels in a model's reply.
//!
//! Syntax is parsed leniently, content is not: labels are taken literally, and an entity without a type or words is a
//! wrong entity. A reply without an object that has one of the three keys has no answer.

use crate::scorer::{Entity, Labels};
use score::{FoundObject, json_objects, strict_json};
use serde_json::{Map, Value};

/// What was read from a reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The labels; empty where the reply has none.
    pub labels: Labels,
    /// Keys that are missing or have a value of the wrong type.
    pub missing: Vec<&'static str>,
    /// True if the object is strict, complete JSON, and the reply contains nothing else.
    pub strict: bool,
    /// True when the reply ended before the object did.
    pub cut: bool,
    /// What was said before the object.
    pub before: String,
}

const KEYS: [&str; 3] = ["scenario", "action", "entities"];

/// Parses a reply; `reasons` means that the prompt asked for words before the object. None if there are no labels.
pub fn read(reply: &str, reasons: bool) -> Option<Answer> {
    // A model that reasons gives its answer last; but a complete object is preferred to one that was cut off.
    let mut best: Option<FoundObject> = None;
    for found in json_objects(reply) {
        let Some(found) = with_labels(found) else { continue };
        if found.whole || best.as_ref().is_none_or(|best| !best.whole) {
            best = Some(found);
        }
    }
    let found = best?;
    let (before, said) = (&reply[..found.at.start], &reply[found.at.clone()]);
    let mut answer = Answer {
        cut: !found.whole,
        before: before.trim().to_owned(),
        ..Answer::default()
    };
    answer.labels.scenario = answer.label(&found.object, "scenario");
    answer.labels.action = answer.label(&found.object, "action");
    answer.labels.entities = answer.entities(&found.object);
    let alone = reply[found.at.end..].trim().is_empty() && (reasons || answer.before.is_empty());
    answer.strict = alone
        && answer.missing.is_empty()
        && strict_json(said).is_some_and(|value| value == Value::Object(found.object));
    Some(answer)
}

/// The object itself if it has one of the keys, or the one within it that has: `{"answer": {…}}`.
fn with_labels(found: FoundObject) -> Option<FoundObject> {
    let has = |object: &Map<String, Value>| KEYS.iter().any(|key| object.contains_key(*key));
    if has(&found.object) {
        return Some(found);
    }
    let mut inner = found
        .object
        .values()
        .filter_map(Value::as_object)
        .filter(|object| has(object));
    let object = inner.next()?.clone();
    // With two of them, one would have to be chosen.
    inner.next().is_none().then_some(FoundObject { object, ..found })
}

impl Answer {
    fn label(&mut self, object: &Map<String, Value>, name: &'static str) -> String {
        match object.get(name) {
            Some(Value::String(label)) => label.clone(),
            _ => {
                self.missing.push(name);
                String::new()
            }
        }
    }

    fn entities(&mut self, object: &Map<String, Value>) -> Vec<Entity> {
        let Some(Value::Array(items)) = object.get("entities") else {
            self.missing.push("entities");
            return Vec::new();
        };
        let mut malformed = false;
        let mut entity = |item: &Value| {
            let kind = item.get("type").and_then(Value::as_str);
            let filler = item.get("filler").and_then(plain);
            malformed |= kind.is_none() || !item.get("filler").is_some_and(Value::is_string);
            Entity::new(kind.unwrap_or_default(), filler.unwrap_or_default())
        };
        let entities = items.iter().map(&mut entity).collect();
        if malformed {
            self.missing.push("entity fields");
        }
        entities
    }
}

/// A filler that was written as a number counts as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The labels on one line, and whether they were strict JSON.
    fn said(reply: &str, reasons: bool) -> Option<(String, bool)> {
        let answer = read(reply, reasons)?;
        let entities = answer.labels.entities.iter();
        let entities: String = entities
            .map(|entity| format!(" {}={}", entity.kind, entity.filler))
            .collect();
        let cut = if answer.cut { " cut" } else { "" };
        Some((format!("{}{entities}{cut}", answer.labels.intent()), answer.strict))
    }

    #[track_caller]
    fn check(reply: &str, expected: &str, strict: bool) {
        assert_eq!(said(reply, false), Some((expected.to_owned(), strict)), "{reply}");
    }

    #[test]
    fn by_the_letter() {
        let reply = r#" {"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "ten am"}]} "#;
        check(reply, "alarm_set time=ten am", true);
        check(
            r#"{"entities": [], "action": "set", "scenario": "Alarm", "more": 1}"#,
            "Alarm_set",
            true,
        );
    }

    #[test]
    fn with_slips_it_is_read_and_counted_apart() {
        check(
            "```json\n{\"scenario\": \"alarm\", \"action\": \"set\", \"entities\": []}\n```",
            "alarm_set",
            false,
        );
        check(
            "{'scenario': 'alarm', 'action': 'set', 'entities': [],}",
            "alarm_set",
            false,
        );
        check(r#"{"scenario": "alarm", "action": "set"}"#, "alarm_set", false);
        check(
            r#"{"scenario": "alarm", "action": null, "entities": "none"}"#,
            "alarm_",
            false,
        );
        check(
            r#"{"labels": {"scenario": "alarm", "action": "set", "entities": []}}"#,
            "alarm_set",
            false,
        );
        check(
            r#"{"scenario": "alarm", "action": "set", "entities": [{"type": "time", "fil"#,
            "alarm_set time= cut",
            false,
        );
    }

    #[test]
    fn an_entity_that_is_none_is_a_wrong_one() {
        let entities = |list: &str| format!(r#"{{"scenario": "a", "action": "b", "entities": {list}}}"#);
        check(
            &entities(r#"["ten", {"type": "time"}, {"filler": "ten"}]"#),
            "a_b = time= =ten",
            false,
        );
        check(&entities(r#"[{"type": "time", "filler": 10}]"#), "a_b time=10", false);
        check(
            &entities(r#"[{"type": "time", "filler": "ten", "score": 1}]"#),
            "a_b time=ten",
            true,
        );
    }

    #[test]
    fn the_last_whole_object_counts() {
        let (a, b) = (
            r#"{"scenario": "a", "action": "a", "entities": []}"#,
            r#"{"scenario": "b", "action": "b", "entities": []}"#,
        );
        check(&format!("{a} No: {b}"), "b_b", false);
        check(&format!("{a} and {{\"type\": \"time\"}}"), "a_a", false);
        check(&format!("{a} again: {}", &b[..20]), "a_a", false);
        check(&b[..26], "b_ cut", false);
    }

    #[test]
    fn reasons_are_kept_apart_and_are_no_slip_where_they_were_asked_for() {
        let reply = "He names a time.\n{\"scenario\": \"alarm\", \"action\": \"set\", \"entities\": []}";
        assert_eq!(read(reply, true).unwrap().before, "He names a time.");
        assert_eq!(said(reply, true), Some(("alarm_set".to_owned(), true)));
        assert_eq!(said(reply, false), Some(("alarm_set".to_owned(), false)));
    }

    #[test]
    fn no_labels_are_no_answer() {
        for reply in [
            "",
            "alarm_set",
            "{}",
            "{\"intent\": \"alarm_set\"}",
            "scenario: alarm",
            "{\"a\": {\"action\": \"x\"}, \"b\": {\"action\": \"y\"}}",
        ] {
            assert_eq!(said(reply, false), None, "{reply}");
        }
    }
}
