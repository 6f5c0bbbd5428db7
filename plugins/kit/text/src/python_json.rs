//! JSON in the format of Python's `json.dumps`, since prompts must be equal to the byte.

use serde_json::Value;
use std::fmt::Write;

#[derive(Default)]
pub struct Style {
    pub indent: Option<usize>,
    pub ensure_ascii: bool,
    pub sort_keys: bool,
    /// Between items, and between key and value.
    pub separators: Option<(String, String)>,
}

impl Style {
    fn between_items(&self) -> &str {
        match (&self.separators, self.indent) {
            (Some((item, _)), _) => item,
            (None, Some(_)) => ",",
            (None, None) => ", ",
        }
    }

    fn behind_key(&self) -> &str {
        self.separators.as_ref().map_or(": ", |(_, key)| key)
    }
}

pub fn dumps(value: &Value, style: &Style) -> String {
    let mut out = String::new();
    write_value(&mut out, value, style, 0);
    out
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) {
    match value {
        Value::String(text) => write_text(out, text, style.ensure_ascii),
        Value::Array(items) => {
            let items = items.iter().map(|item| (None, item)).collect();
            write_items(out, items, ['[', ']'], style, depth);
        }
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().map(|(k, v)| (Some(k.as_str()), v)).collect();
            if style.sort_keys {
                items.sort_by_key(|(key, _)| *key);
            }
            write_items(out, items, ['{', '}'], style, depth);
        }
        Value::Number(number) => out.push_str(&exponent(number.to_string())),
        plain => out.push_str(&plain.to_string()),
    }
}

/// An exponent has a sign and at least two digits.
fn exponent(number: String) -> String {
    match number.split_once("e-") {
        Some((digits, power)) if power.len() == 1 => format!("{digits}e-0{power}"),
        _ => number,
    }
}

fn write_items(
    out: &mut String,
    items: Vec<(Option<&str>, &Value)>,
    [open, close]: [char; 2],
    style: &Style,
    depth: usize,
) {
    out.push(open);
    let some = !items.is_empty();
    for (index, (key, value)) in items.into_iter().enumerate() {
        if index > 0 {
            out.push_str(style.between_items());
        }
        new_line(out, style, depth + 1);
        if let Some(key) = key {
            write_text(out, key, style.ensure_ascii);
            out.push_str(style.behind_key());
        }
        write_value(out, value, style, depth + 1);
    }
    if some {
        new_line(out, style, depth);
    }
    out.push(close);
}

fn new_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn write_text(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || (ensure_ascii && !c.is_ascii()) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(value: Value, style: Style, expected: &str) {
        assert_eq!(dumps(&value, &style), expected);
    }

    #[test]
    fn spells_as_python_does() {
        check(
            json!({"a": [1, 2.5, "é<"], "b": {}}),
            Style::default(),
            r#"{"a": [1, 2.5, "é<"], "b": {}}"#,
        );
        check(
            json!([1.0, 1e16, 1e-7, 2.5e-12, 0.1]),
            Style::default(),
            "[1.0, 1e+16, 1e-07, 2.5e-12, 0.1]",
        );
        check(
            json!(["é🙂"]),
            Style {
                ensure_ascii: true,
                ..Style::default()
            },
            r#"["\u00e9\ud83d\ude42"]"#,
        );
        check(
            json!({"b": null, "a": true}),
            Style {
                sort_keys: true,
                ..Style::default()
            },
            r#"{"a": true, "b": null}"#,
        );
        check(
            json!({"a": [1, 2], "b": 1}),
            Style {
                separators: Some((",".to_owned(), ":".to_owned())),
                ..Style::default()
            },
            r#"{"a":[1,2],"b":1}"#,
        );
        check(
            json!({"a": [1], "b": []}),
            Style {
                indent: Some(2),
                ..Style::default()
            },
            "{\n  \"a\": [\n    1\n  ],\n  \"b\": []\n}",
        );
    }
}
