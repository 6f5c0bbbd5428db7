//! Parses bodies of replies, which are not trusted.

use crate::secret::redact;
use serde_json::Value;

/// Reads JSON as servers write it: the words `NaN` and `Infinity`, which JSON lacks, stand for null, and a byte order
/// mark before it is passed over.
pub fn lenient(text: &str) -> Option<Value> {
    let text = text.trim_start_matches('\u{feff}');
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let words = ["NaN", "-Infinity", "Infinity"];
    if !words.iter().any(|word| text.contains(word)) {
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut rest) = (false, false, text);
    while let Some(letter) = rest.chars().next() {
        if !quoted && let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
            clean.push_str("null");
            rest = &rest[word.len()..];
            continue;
        }
        (quoted, escaped) = match (quoted, escaped, letter) {
            (true, true, _) => (true, false),
            (true, false, '\\') => (true, true),
            (quoted, _, '"') => (!quoted, false),
            (quoted, _, _) => (quoted, false),
        };
        clean.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    serde_json::from_str(&clean).ok()
}

/// The essence of an error's body: its message, an HTML page's title, or the first words. Keys are removed.
pub fn said(text: &str) -> String {
    let found = ErrorBody::read(text);
    let words = match found.message.trim() {
        "" => outline(text),
        message => message.to_owned(),
    };
    shortened(&redact(&words), 300)
}

/// The first characters of a text, on one line.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// A page's title, or the beginning of another text.
fn outline(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|start| {
        let end = lower[start..].find("</title>")? + start;
        text.get(start + 7..end)
    });
    match title {
        Some(title) => format!("an HTML page titled “{}”", title.trim()),
        None if lower.trim_start().starts_with("<!doctype html") || lower.contains("<html") => {
            "an HTML page".to_owned()
        }
        None => text.chars().take(400).collect(),
    }
}

/// The contents of an error's body, in any of the usual layouts.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct ErrorBody {
    pub message: String,
    /// Google's status, or OpenAI's type.
    pub status: String,
    /// OpenAI's code, or Google's reason.
    pub code: String,
    pub retry_seconds: Option<f64>,
    pub quotas: Vec<String>,
    pub limit_zero: bool,
}

impl ErrorBody {
    /// Parses any body; missing parts stay empty.
    pub fn read(text: &str) -> ErrorBody {
        let mut found = ErrorBody::default();
        if let Some(value) = lenient(text) {
            found.take(&value, 0);
        }
        found.limit_zero |= found.message.contains("limit: 0,") || found.message.trim_end().ends_with("limit: 0");
        found
    }

    fn take(&mut self, value: &Value, depth: u32) {
        let value = match value {
            Value::Array(items) => items.first().unwrap_or(&Value::Null),
            other => other,
        };
        let inner = match field(value, "error") {
            Some(error @ Value::Object(_)) => error,
            Some(Value::String(words)) => {
                self.message.clone_from(words);
                return;
            }
            _ => value,
        };
        let word = |name: &str| field(inner, name).and_then(Value::as_str).map(str::to_owned);
        if self.status.is_empty() {
            self.status = word("status").or_else(|| word("type")).unwrap_or_default();
        }
        if self.code.is_empty() {
            self.code = word("code").unwrap_or_default();
        }
        for detail in field(inner, "details").and_then(Value::as_array).into_iter().flatten() {
            if let Some(delay) = field(detail, "retryDelay").and_then(duration) {
                self.retry_seconds = Some(self.retry_seconds.unwrap_or(0.0).max(delay));
            }
            if let Some(reason) = field(detail, "reason").and_then(Value::as_str) {
                self.code = reason.to_owned();
            }
            for violation in field(detail, "violations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                self.quotas.extend(
                    ["quotaId", "quotaMetric"]
                        .iter()
                        .filter_map(|name| field(violation, name)?.as_str().map(str::to_owned)),
                );
                self.limit_zero |=
                    field(violation, "quotaValue").is_some_and(|value| value == "0" || value == &Value::from(0));
            }
        }
        let words = ["message", "detail", "error_description"]
            .iter()
            .find_map(|name| match field(inner, name)? {
                Value::String(text) => Some(text.clone()),
                // A validation error of FastAPI: a list of errors with their places.
                list @ Value::Array(_) => Some(list.to_string()),
                _ => None,
            });
        let Some(words) = words else { return };
        // Some servers repeat the whole JSON inside of the message.
        let nested = words
            .trim_start()
            .starts_with(['{', '['])
            .then(|| lenient(&words))
            .flatten();
        match nested {
            Some(nested) if depth < 3 => {
                self.take(&nested, depth + 1);
                if self.message.is_empty() {
                    self.message = words;
                }
            }
            _ => self.message = words,
        }
    }
}

/// A field, also if there is a blank before its name.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let map = value.as_object()?;
    map.get(name)
        .or_else(|| map.iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value))
}

/// Google's durations: `34.07s`, or an object of seconds and nanoseconds.
fn duration(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().strip_suffix('s')?.parse().ok(),
        Value::Object(_) => {
            let part = |name| field(value, name).and_then(|part| part.as_f64().or_else(|| part.as_str()?.parse().ok()));
            let (seconds, nanos) = (part("seconds"), part("nanos"));
            (seconds.is_some() || nanos.is_some()).then(|| seconds.unwrap_or(0.0) + nanos.unwrap_or(0.0) / 1e9)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_json_lacks_are_nulls_outside_of_strings() {
        assert_eq!(
            lenient(r#"{"a": [NaN, -Infinity, 1], "b": "NaN \" Infinity"}"#)
                .unwrap()
                .to_string(),
            r#"{"a":[null,null,1],"b":"NaN \" Infinity"}"#
        );
        assert_eq!(lenient("NaN of it"), None);
        assert_eq!(lenient("\u{feff}{\"a\": 1}").unwrap()["a"], 1);
        assert_eq!(lenient(&"[".repeat(100_000)), None);
    }

    #[test]
    fn an_error_is_read_in_all_its_shapes() {
        let plain = r#"{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [
            {" @type": "type.googleapis.com/google.rpc.RetryInfo", " retryDelay": "34.07s"},
            {"@type": "q", "violations": [{"quotaId": "GenerateRequestsPerDay", "quotaValue": "0"}]}]}}"#;
        let read = ErrorBody::read(plain);
        assert_eq!((read.message.as_str(), read.retry_seconds), ("slow", Some(34.07)));
        assert!(read.limit_zero && read.quotas == ["GenerateRequestsPerDay"]);
        assert_eq!(ErrorBody::read(&format!("[{plain}]")), read);
        let nested = serde_json::json!({ "error": { "message": plain, "code": 429 } }).to_string();
        assert_eq!(ErrorBody::read(&nested).retry_seconds, Some(34.07));
        assert_eq!(
            ErrorBody::read(r#"{"detail": "no such model"}"#).message,
            "no such model"
        );
        assert_eq!(
            ErrorBody::read(r#"{"error": "model not found"}"#).message,
            "model not found"
        );
        assert_eq!(ErrorBody::read("<html>"), ErrorBody::default());
    }

    #[test]
    fn a_page_is_named_by_its_title() {
        assert_eq!(
            said("<html><head><title>502 Bad\n Gateway</title>"),
            "an HTML page titled “502 Bad Gateway”"
        );
        assert_eq!(said("<!DOCTYPE html><body>x"), "an HTML page");
        assert_eq!(said("upstream  gone\n"), "upstream gone");
    }
}
