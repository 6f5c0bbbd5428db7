//! Tool calls: parsed from text or from chat interfaces' JSON, compared, and written.

use crate::{json_objects, normalised, strict_json};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub name: String,
    pub arguments: Map<String, Value>,
}

/// The calls in a message.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Calls {
    pub calls: Vec<ToolCall>,
    /// Calls that begin but cannot be parsed.
    pub broken: usize,
    /// Calls that are not strict JSON, or outside of `<tool_call>`, but were parsed.
    pub mended: usize,
}

const OPEN: &str = "<tool_call>";
const CLOSE: &str = "</tool_call>";

impl Calls {
    /// The calls in a text: those in `<tool_call>{…}</tool_call>`, or if there are none, JSON objects that are calls.
    ///
    /// ```
    /// use score::calls::Calls;
    ///
    /// let found = Calls::in_text("Let me see.\n<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call>");
    /// assert_eq!((found.calls[0].name.as_str(), found.broken, found.mended), ("add", 0, 0));
    /// let cut = Calls::in_text("<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}");
    /// assert_eq!((cut.calls.len(), cut.mended), (1, 1));
    /// ```
    pub fn in_text(text: &str) -> Calls {
        let mut found = Calls::default();
        let mut rest = text.split(OPEN);
        let before = rest.next().unwrap_or_default();
        let mut any = false;
        for piece in rest {
            any = true;
            let closed = piece.split_once(CLOSE);
            found.add(closed.map_or(piece, |(inside, _)| inside), closed.is_some());
        }
        if !any {
            let loose = json_objects(before).filter_map(|found| ToolCall::of(&Value::Object(found.object)));
            found.calls.extend(loose);
            found.mended = found.calls.len();
        }
        found
    }

    fn add(&mut self, inside: &str, closed: bool) {
        if let Some(call) = strict_json(inside).as_ref().and_then(ToolCall::of) {
            self.calls.push(call);
            self.mended += usize::from(!closed);
            return;
        }
        let before = self.calls.len();
        let mended = json_objects(inside).filter_map(|found| ToolCall::of(&Value::Object(found.object)));
        self.calls.extend(mended);
        match self.calls.len() - before {
            0 => self.broken += 1,
            some => self.mended += some,
        }
    }

    /// The calls of a list in the format of chat interfaces: `[{"function": {"name", "arguments"}}]`.
    pub fn in_list(list: &[Value]) -> Calls {
        let mut found = Calls::default();
        for item in list {
            match ToolCall::of(item) {
                Some(call) => found.calls.push(call),
                None => found.broken += 1,
            }
        }
        found
    }

    /// The names of the tools, in order.
    pub fn names(&self) -> Vec<&str> {
        self.calls.iter().map(|call| call.name.as_str()).collect()
    }
}

impl ToolCall {
    /// A call from its JSON, in any of the usual formats.
    pub fn of(value: &Value) -> Option<ToolCall> {
        let inner = value.get("function").filter(|inner| inner.is_object()).unwrap_or(value);
        let name = inner.get("name")?.as_str()?.trim();
        let arguments = match inner.get("arguments").or_else(|| inner.get("parameters")) {
            Some(Value::Object(arguments)) => arguments.clone(),
            // Chat interfaces encode arguments as a string of JSON; an empty string means none.
            Some(Value::String(text)) if text.trim().is_empty() => Map::new(),
            Some(Value::String(text)) => match strict_json(text) {
                Some(Value::Object(arguments)) => arguments,
                _ => json_objects(text).next()?.object,
            },
            Some(Value::Null) => Map::new(),
            // In a chat interface's format, a call may lack arguments; without them, any other object may be anything.
            None if value.get("function").is_some() => Map::new(),
            _ => return None,
        };
        (!name.is_empty()).then(|| ToolCall {
            name: name.to_owned(),
            arguments,
        })
    }

    /// The call as JSON: `{"name", "arguments"}`.
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "arguments": self.arguments })
    }

    /// The call as text, in the format that prompts ask for.
    pub fn to_text(&self) -> String {
        format!("{OPEN}{}{CLOSE}", self.to_json())
    }

    /// An item of a list of calls as text: an item that is not a call stays what it is.
    pub fn text_of(item: &Value) -> String {
        match ToolCall::of(item) {
            Some(call) => call.to_text(),
            None => format!("{OPEN}{}{CLOSE}", item.get("function").unwrap_or(item)),
        }
    }
}

/// How calls agree with the expected ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The same tools in the same order.
    pub names: bool,
    /// Also the same arguments.
    pub exact: bool,
    /// Also the same arguments, up to spelling.
    pub normalised: bool,
    /// The share of positions with the right call, of the longer list.
    pub share: f64,
}

/// Compares calls with the expected ones. If none was expected, none is right.
pub fn agreement(predicted: &Calls, gold: &Calls) -> Agreement {
    let names = predicted.broken == 0 && predicted.names() == gold.names();
    let pairs = || predicted.calls.iter().zip(&gold.calls);
    let alike = |(one, other): &(&ToolCall, &ToolCall)| one.name == other.name && same_written(one, other);
    let longer = gold.calls.len().max(predicted.calls.len() + predicted.broken);
    Agreement {
        names,
        exact: names && pairs().all(|(one, other)| one.arguments == other.arguments),
        normalised: names && pairs().all(|pair| alike(&pair)),
        share: match longer {
            0 => 1.0,
            longer => pairs().filter(alike).count() as f64 / longer as f64,
        },
    }
}

/// Whether two calls' arguments are equal up to case, blanks, kinds of quotes, numbers written as text, and nulls.
pub fn same_written(one: &ToolCall, other: &ToolCall) -> bool {
    object(&one.arguments) == object(&other.arguments)
}

fn object(fields: &Map<String, Value>) -> Value {
    let kept = fields.iter().filter(|(_, value)| !value.is_null());
    Value::Object(
        kept.map(|(name, value)| (name.trim().to_lowercase(), plain(value)))
            .collect(),
    )
}

pub(crate) fn plain(value: &Value) -> Value {
    match value {
        Value::Object(fields) => object(fields),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => number.as_f64().map_or_else(|| value.clone(), |number| json!(number)),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => json!(number),
            _ => match text.trim().to_lowercase().as_str() {
                "true" => true.into(),
                "false" => false.into(),
                _ => normalised(text).split_whitespace().collect::<String>().into(),
            },
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, names: &[&str], broken: usize, mended: usize) {
        let found = Calls::in_text(text);
        assert_eq!(
            (found.names(), found.broken, found.mended),
            (names.to_vec(), broken, mended),
            "{text}"
        );
    }

    #[test]
    fn calls_are_read_from_text() {
        check("No tool is needed.\nFINAL ANSWER: 3", &[], 0, 0);
        check(r#"<tool_call>{"name": "a", "arguments": {}}</tool_call>"#, &["a"], 0, 0);
        check(
            "<tool_call>\n{\"name\": \"a\", \"arguments\": \"{\\\"x\\\": 1}\"}\n</tool_call>",
            &["a"],
            0,
            0,
        );
        let two = r#"<tool_call>{"name": "a", "arguments": {}}</tool_call> then <tool_call>{"name": "b", "parameters": {}}</tool_call>"#;
        check(two, &["a", "b"], 0, 0);
        check(
            r#"<tool_call>{'name': 'a', 'arguments': {"x": 1,}}</tool_call>"#,
            &["a"],
            0,
            1,
        );
        check(
            r#"<tool_call>{"name": "a", "arguments": {"x": "y"}</tool_call>"#,
            &["a"],
            0,
            1,
        );
        check(r#"<tool_call>{"name": "a", "arguments": {}}"#, &["a"], 0, 1);
        check("<tool_call>calculator(3)</tool_call>", &[], 1, 0);
        check("<tool_call>", &[], 1, 0);
        check(r#"<tool_call>{"name": "", "arguments": {}}</tool_call>"#, &[], 1, 0);
        check(
            "```json\n{\"name\": \"a\", \"arguments\": {\"x\": 1}}\n```",
            &["a"],
            0,
            1,
        );
        check(r#"The record is {"name": "Ann", "age": 3}."#, &[], 0, 0);
    }

    #[test]
    fn calls_are_read_from_lists() {
        let list = json!([{"id": "c1", "type": "function", "function": {"name": "a", "arguments": "{\"x\": 1}"}},
            {"function": {"name": "b"}}, {"function": {"name": "c", "arguments": "nope"}}, 3]);
        let found = Calls::in_list(list.as_array().unwrap());
        assert_eq!((found.names(), found.broken), (vec!["a", "b"], 2));
        assert_eq!(
            found.calls[0].to_text(),
            r#"<tool_call>{"name":"a","arguments":{"x":1}}</tool_call>"#
        );
    }

    #[track_caller]
    fn check_agreement(predicted: &str, gold: &str, names: bool, exact: bool, normalised: bool, share: f64) {
        let calls = |text: &str| Calls::in_list(serde_json::from_str::<Value>(text).unwrap().as_array().unwrap());
        let expected = Agreement {
            names,
            exact,
            normalised,
            share,
        };
        assert_eq!(
            agreement(&calls(predicted), &calls(gold)),
            expected,
            "{predicted} for {gold}"
        );
    }

    #[test]
    fn calls_agree_in_names_arguments_or_writing() {
        let a = r#"[{"name": "a", "arguments": {"q": "Two  Words.", "n": 3}}]"#;
        check_agreement(a, a, true, true, true, 1.0);
        check_agreement(
            r#"[{"name": "a", "arguments": {"n": 3, "q": "Two  Words."}}]"#,
            a,
            true,
            true,
            true,
            1.0,
        );
        check_agreement(
            r#"[{"name": "a", "arguments": {"n": "3.0", "q": "two words", "z": null}}]"#,
            a,
            true,
            false,
            true,
            1.0,
        );
        check_agreement(
            r#"[{"name": "a", "arguments": {"n": 4, "q": "two words"}}]"#,
            a,
            true,
            false,
            false,
            0.0,
        );
        check_agreement(
            r#"[{"name": "b", "arguments": {"n": 3, "q": "Two  Words."}}]"#,
            a,
            false,
            false,
            false,
            0.0,
        );
        check_agreement("[]", a, false, false, false, 0.0);
        check_agreement("[]", "[]", true, true, true, 1.0);
        check_agreement(a, "[]", false, false, false, 0.0);
        let two = r#"[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {"x": 1}}]"#;
        check_agreement(r#"[{"name": "a", "arguments": {}}]"#, two, false, false, false, 0.5);
        check_agreement(
            r#"[{"name": "b", "arguments": {"x": 1}}, {"name": "a", "arguments": {}}]"#,
            two,
            false,
            false,
            false,
            0.0,
        );
        check_agreement(
            r#"[{"name": "a", "arguments": {}}, 3]"#,
            r#"[{"name": "a", "arguments": {}}]"#,
            false,
            false,
            false,
            0.5,
        );
    }
}
