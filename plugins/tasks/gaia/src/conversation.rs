//! Conversations with tool calls, in either of two styles: calls as text within `<tool_call>`, or in `tool_calls` as
//! in chat interfaces.

use crate::official::FINAL_ANSWER;
use data::Row;
use plugin_api::{Message, Part, Result, Role};
use score::calls::{Calls, ToolCall};
use serde_json::{Value, json};

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Said {
    pub role: Role,
    pub text: String,
    /// Calls beside the text. Those within it are found by [`Said::calls`].
    beside: Calls,
    /// The list that they stood in.
    list: Vec<Value>,
}

/// The messages of a row.
pub(crate) fn messages(row: &Row) -> Result<Vec<Said>> {
    let count = row.list("messages")?.len();
    if count == 0 {
        return Err(row.wrong("messages", "is empty"));
    }
    (0..count)
        .map(|index| message(row, &format!("messages.{index}")))
        .collect()
}

fn message(row: &Row, path: &str) -> Result<Said> {
    let role = match row.text(&format!("{path}.role"))? {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        other => {
            let why = format!("is `{other}`, expected system, user, assistant or tool");
            return Err(row.wrong(&format!("{path}.role"), why));
        }
    };
    let calls = format!("{path}.tool_calls");
    let list = match row.at(&calls) {
        Some(_) => row.list(&calls)?.to_vec(),
        None => Vec::new(),
    };
    Ok(Said {
        role,
        text: content(row, &format!("{path}.content"))?,
        beside: Calls::in_list(&list),
        list,
    })
}

/// A message's text. Null is empty, and a list consists of parts with text.
fn content(row: &Row, path: &str) -> Result<String> {
    match row.at(path) {
        None => Ok(String::new()),
        Some(Value::Array(parts)) => {
            let texts = (0..parts.len()).map(|index| row.text(&format!("{path}.{index}.text")));
            Ok(texts.collect::<Result<Vec<_>>>()?.concat())
        }
        Some(_) => Ok(row.text(path)?.to_owned()),
    }
}

impl Said {
    /// Its calls, beside the words or among them.
    pub fn calls(&self) -> Calls {
        match self.list.is_empty() {
            true => Calls::in_text(&self.text),
            false => self.beside.clone(),
        }
    }

    /// The message as text: calls beside the text are appended as `<tool_call>`.
    pub fn as_text(&self) -> String {
        let mut lines = Vec::new();
        if !self.text.is_empty() || self.list.is_empty() {
            lines.push(self.text.clone());
        }
        lines.extend(self.list.iter().map(ToolCall::text_of));
        lines.join("\n")
    }

    /// As training data: role and text.
    pub fn to_json(&self) -> Value {
        json!({ "role": self.role, "content": self.as_text() })
    }
}

/// Whether a conversation gives its answers in the form that the benchmark asks for.
pub(crate) fn marks_answers(said: &[Said]) -> bool {
    said.iter()
        .any(|one| one.role == Role::Assistant && one.text.contains(FINAL_ANSWER))
}

/// How a conversation is put into a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Tools, calls and results as text of user and assistant, which every model can read.
    Words,
    /// In the model's own chat template.
    Template,
}

/// The marks around the results of tools that are given as text.
const RESULT: (&str, &str) = ("<tool_response>\n", "\n</tool_response>");

/// The messages as a prompt has them.
pub(crate) fn as_messages(said: &[Said], style: Style) -> Vec<Message> {
    let mut messages: Vec<Message> = Vec::new();
    for one in said {
        if style == Style::Template {
            let calls = one.beside.calls.iter();
            messages.push(Message {
                tool_calls: calls
                    .map(|call| json!({ "type": "function", "function": call.to_json() }))
                    .collect(),
                ..Message::text(one.role, one.text.clone())
            });
            continue;
        }
        if one.role != Role::Tool {
            messages.push(Message::text(one.role, one.as_text()));
            continue;
        }
        let result = format!("{}{}{}", RESULT.0, one.text, RESULT.1);
        // Templates expect alternating roles, so the results of several calls become one message.
        match messages.last_mut().filter(|last| last.role == Role::User) {
            Some(last) => last.parts.push(Part::text(format!("\n{result}"))),
            None => messages.push(Message::user(result)),
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::Place;

    fn read(value: Value) -> Result<Vec<Said>> {
        messages(&Row::new(json!({ "messages": value }), Place::Sample("x".to_owned())))
    }

    fn conversation() -> Vec<Said> {
        read(json!([{"role": "user", "content": [{"type": "text", "text": "Go."}]},
            {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "a", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "1"}, {"role": "tool", "content": "2"},
            {"role": "assistant", "content": "Done.", "tool_calls": null}]))
        .unwrap()
    }

    #[test]
    fn both_styles_are_read() {
        let said = conversation();
        assert_eq!(
            said[1].as_text(),
            r#"<tool_call>{"name":"a","arguments":{}}</tool_call>"#
        );
        assert_eq!((said[1].calls().names(), said[4].calls().names().len()), (vec!["a"], 0));
        assert_eq!(said[4].to_json(), json!({"role": "assistant", "content": "Done."}));
        let odd = json!([{"function": {"name": "a", "arguments": "nope"}}, 3]);
        let said = read(json!([{"role": "assistant", "tool_calls": odd}])).unwrap();
        let kept = "<tool_call>{\"name\":\"a\",\"arguments\":\"nope\"}</tool_call>\n<tool_call>3</tool_call>";
        assert_eq!((said[0].as_text().as_str(), said[0].calls().broken), (kept, 2));
        let text = r#"<tool_call>{"name": "b", "arguments": {}}</tool_call>"#;
        let said = read(json!([{"role": "assistant", "content": text}])).unwrap();
        assert_eq!((said[0].calls().names(), said[0].as_text().as_str()), (vec!["b"], text));
    }

    #[test]
    fn results_of_tools_are_words_of_the_user_or_messages_of_their_own() {
        let words = as_messages(&conversation(), Style::Words);
        let roles: Vec<Role> = words.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User, Role::Assistant]);
        let results = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>";
        assert_eq!(words[2].joined_text(), results);
        let native = as_messages(&conversation(), Style::Template);
        assert_eq!((native.len(), native[2].role), (5, Role::Tool));
        assert_eq!(
            native[1].tool_calls,
            [json!({"type": "function", "function": {"name": "a", "arguments": {}}})]
        );
    }

    #[test]
    fn what_is_off_is_named() {
        let check = |value: Value, words: &str| {
            let error = read(value).unwrap_err().message;
            assert!(error.ends_with(words), "{error}");
        };
        check(json!([]), "field `messages` is empty");
        check(
            json!([{"role": "narrator"}]),
            "field `messages.0.role` is `narrator`, expected system, user, assistant or tool",
        );
        check(json!([{"content": "x"}]), "field `messages.0.role` is missing");
        check(
            json!([{"role": "user", "content": 3}]),
            "field `messages.0.content` is the number 3, expected text",
        );
        check(
            json!([{"role": "user", "content": [{"image": 1}]}]),
            "field `messages.0.content.0.text` is missing",
        );
    }
}
