//! A row that knows its file and line, for error messages.

use plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The place of a row, worded for the start of an error: ``line 7 of `x.jsonl` ``.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a text file, counted from 1.
    Line(usize, Arc<PathBuf>),
    /// An item of a JSON list, counted from 1.
    Item(usize, Arc<PathBuf>),
    /// A row of a Parquet file, counted from 1.
    Row(usize, Arc<PathBuf>),
    /// A sample that the host handed back, whose file is unknown.
    Sample(String),
}

impl Place {
    /// The file, if known.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Place::Line(_, file) | Place::Item(_, file) | Place::Row(_, file) => Some(file.as_path()),
            Place::Sample(_) => None,
        }
    }

    pub(crate) fn broken(&self, why: impl fmt::Display) -> Error {
        Error::new(Code::DATA, format!("{self} {why}"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(number, file) => write!(f, "line {number} of `{}`", file.display()),
            Place::Item(number, file) => write!(f, "item {number} of `{}`", file.display()),
            Place::Row(number, file) => write!(f, "row {number} of `{}`", file.display()),
            Place::Sample(id) => write!(f, "sample `{id}`"),
        }
    }
}

/// One row of a data set.
///
/// Fields are named by path: `choices.text` is the field `text` of the object `choices`, `list.0` the first item of a
/// list.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its fields. Bytes are replaced by `{"blob": index}` into `blobs`.
    pub value: Value,
    /// Byte columns, for instance encoded audio.
    pub blobs: Vec<Vec<u8>>,
    pub place: Place,
}

impl Row {
    /// A row without bytes.
    pub fn new(value: Value, place: Place) -> Self {
        Row {
            value,
            blobs: Vec::new(),
            place,
        }
    }

    /// The value at a path; none for null.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut value = &self.value;
        for name in path.split('.') {
            value = match value {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => value.get(name)?,
            };
        }
        (!value.is_null()).then_some(value)
    }

    /// The text at a path.
    pub fn text(&self, path: &str) -> Result<&str> {
        let value = self.need(path)?;
        value.as_str().ok_or_else(|| self.mistyped(path, value, "text"))
    }

    /// The text or integer at a path: ids and labels are written both ways.
    pub fn word(&self, path: &str) -> Result<Cow<'_, str>> {
        let value = self.need(path)?;
        word_of(value).ok_or_else(|| self.mistyped(path, value, "text"))
    }

    /// The list at a path.
    pub fn list(&self, path: &str) -> Result<&[Value]> {
        let value = self.need(path)?;
        let list = value.as_array().map(Vec::as_slice);
        list.ok_or_else(|| self.mistyped(path, value, "a list"))
    }

    /// The list of words at a path; see [`Row::word`].
    pub fn words(&self, path: &str) -> Result<Vec<Cow<'_, str>>> {
        let items = self.list(path)?.iter().enumerate();
        items
            .map(|(index, item)| word_of(item).ok_or_else(|| self.mistyped(&format!("{path}.{index}"), item, "text")))
            .collect()
    }

    /// The number at a path, also if it is written as text.
    pub fn number(&self, path: &str) -> Result<f64> {
        let value = self.need(path)?;
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            _ => value.as_f64(),
        };
        number.ok_or_else(|| self.mistyped(path, value, "a number"))
    }

    /// An error that names the file, the row and the field; `why` continues the sentence.
    pub fn wrong(&self, path: &str, why: impl fmt::Display) -> Error {
        Error::new(Code::DATA, format!("{}: field `{path}` {why}", self.place))
    }

    fn need(&self, path: &str) -> Result<&Value> {
        self.at(path).ok_or_else(|| match self.value.as_object() {
            Some(fields) if fields.is_empty() => self.wrong(path, "is missing"),
            Some(fields) => {
                let names: Vec<_> = fields
                    .keys()
                    .take(12)
                    .map(|name| format!("`{}`", short(name)))
                    .collect();
                self.wrong(path, "is missing")
                    .help(format!("the row has {}", names.join(", ")))
            }
            None => self
                .place
                .broken(format!("is {}, expected an object", kind_of(&self.value))),
        })
    }

    fn mistyped(&self, path: &str, value: &Value, expected: &str) -> Error {
        self.wrong(path, format!("is {}, expected {expected}", kind_of(value)))
    }
}

fn word_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

/// A value in a few words, for errors.
fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => format!("`{flag}`"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text `{}`", short(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The beginning of an untrusted text, on one line.
pub(crate) fn short(text: &str) -> String {
    let mut line: String = text.chars().take(40).collect::<String>().escape_debug().to_string();
    if text.chars().nth(40).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(value: Value) -> Row {
        Row::new(value, Place::Line(7, Arc::new("x.jsonl".into())))
    }

    #[track_caller]
    fn check<T: fmt::Debug>(result: Result<T>, message: &str) {
        assert_eq!(result.unwrap_err().message, message);
    }

    #[test]
    fn an_error_names_file_line_field_and_why() {
        let odd = row(json!({"q": 3.5, "list": ["a", null], "choices": {"text": "A"}, "none": null}));
        check(
            odd.text("q"),
            "line 7 of `x.jsonl`: field `q` is the number 3.5, expected text",
        );
        check(
            odd.word("q"),
            "line 7 of `x.jsonl`: field `q` is the number 3.5, expected text",
        );
        check(odd.text("none"), "line 7 of `x.jsonl`: field `none` is missing");
        check(
            odd.text("choices.label"),
            "line 7 of `x.jsonl`: field `choices.label` is missing",
        );
        check(
            odd.words("list"),
            "line 7 of `x.jsonl`: field `list.1` is null, expected text",
        );
        check(
            odd.list("choices.text"),
            "line 7 of `x.jsonl`: field `choices.text` is the text `A`, expected a list",
        );
        check(
            row(json!([1])).text("q"),
            "line 7 of `x.jsonl` is a list, expected an object",
        );
        let hint = odd.text("question").unwrap_err().help;
        assert_eq!(hint.as_deref(), Some("the row has `q`, `list`, `choices`, `none`"));
    }

    #[test]
    fn whole_numbers_pass_for_words_and_words_for_numbers() {
        let row = row(json!({"key": 3, "level": " 2 ", "share": 0.5, "list": [{"key": "a"}]}));
        assert_eq!(row.word("list.0.key").unwrap(), "a");
        assert_eq!(row.word("key").unwrap(), "3");
        assert_eq!(row.number("level").unwrap(), 2.0);
        assert_eq!(row.number("share").unwrap(), 0.5);
    }

    #[test]
    fn a_long_or_wild_value_is_cut_short() {
        let error = row(json!({"q": {}})).wrong("q", short(&"x\n".repeat(1000)));
        assert!(
            error.message.len() < 150 && !error.message.contains('\n'),
            "{}",
            error.message
        );
    }
}
