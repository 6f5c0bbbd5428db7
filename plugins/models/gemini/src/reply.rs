//! Reads the service's answers.

use plugin_api::{Finish, Reply, Usage};
use remote::{Answer, Dialect, Digest, Tokens};
use serde_json::{Map, Value, json};

/// The service's dialect.
#[derive(Debug, Clone, Copy)]
pub struct Gemini;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("x-goog-api-key", "")
    }

    fn digest(&self, reply: &Value) -> Option<Digest> {
        let map = reply.as_object()?;
        let known = [
            "candidates",
            "promptFeedback",
            "usageMetadata",
            "modelVersion",
            "responseId",
        ];
        if !(map.is_empty() || known.iter().any(|name| map.contains_key(*name))) {
            return None;
        }
        let candidates = reply["candidates"].as_array().map(Vec::as_slice).unwrap_or_default();
        let answers: Vec<Value> = candidates.iter().map(answer).collect();
        let usage = &reply["usageMetadata"];
        let count = |name: &str| usage[name].as_u64().unwrap_or(0);
        Some(Digest {
            reply: json!({
                "answers": answers,
                "block": reply["promptFeedback"]["blockReason"],
                "request_id": reply["responseId"],
            }),
            tokens: Tokens {
                prompt: count("promptTokenCount") + count("toolUsePromptTokenCount"),
                cached: count("cachedContentTokenCount"),
                answer: count("candidatesTokenCount"),
                thoughts: count("thoughtsTokenCount"),
            },
            model_version: reply["modelVersion"].as_str().map(str::to_owned),
        })
    }

    fn fold(&self, _whole: &mut Value, _event: &Value) -> Result<String, String> {
        Err("a stream came that nobody asked for".to_owned())
    }

    fn offers(&self, listed: &Value) -> Vec<String> {
        let models = listed["models"].as_array().map(Vec::as_slice).unwrap_or_default();
        let name = |model: &Value| Some(model["name"].as_str()?.trim_start_matches("models/").to_owned());
        models.iter().filter_map(name).collect()
    }

    fn list_path(&self) -> &'static str {
        "/models?pageSize=1000"
    }
}

/// A candidate: its words, its thoughts, its calls of tools, and why it ended.
fn answer(candidate: &Value) -> Value {
    let parts = candidate["content"]["parts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let texts = |thought: bool| {
        let parts = parts.iter().filter(|part| (part["thought"] == true) == thought);
        parts.filter_map(|part| part["text"].as_str()).collect::<String>()
    };
    let calls = parts.iter().filter_map(|part| part.get("functionCall"));
    let calls: Vec<Value> = calls
        .map(|call| json!({ "type": "function", "function": { "name": call["name"], "arguments": call.get("args").unwrap_or(&json!({})) } }))
        .collect();
    json!({ "text": texts(false), "thinking": texts(true), "tool_calls": calls, "finish": candidate["finishReason"], "parts": parts.len() })
}

/// How a reply ended, as one of the contract's values and in the service's own word.
fn ending(answer: &Value, block: &Value) -> (Finish, &'static str) {
    let text = answer["text"].as_str().unwrap_or_default();
    let calls = answer["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    match (block.as_str(), answer["finish"].as_str()) {
        (Some(_), _) => (Finish::Filtered, "blocked_prompt"),
        (None, Some("MAX_TOKENS")) => (Finish::Length, "cut_short"),
        (None, Some("STOP") | None) if calls => (Finish::ToolCalls, "ok"),
        (None, Some("STOP")) if text.is_empty() => (Finish::Stop, "empty"),
        (None, Some("STOP")) => (Finish::Stop, "ok"),
        (None, None | Some("FINISH_REASON_UNSPECIFIED")) => (Finish::Unknown, "empty"),
        (None, Some("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS")) => {
            (Finish::Unknown, "blocked_answer")
        }
        (None, Some(_)) => (Finish::Filtered, "blocked_answer"),
    }
}

/// Makes a reply of an answer. What the contract has no field for is kept under fixed names.
pub fn reply(answer: &Answer, stops: &[String]) -> Reply {
    let kept = &answer.reply;
    let none = Value::Null;
    let answers = kept["answers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = answers.first().unwrap_or(&none);
    let (mut finish, why) = ending(first, &kept["block"]);
    let words = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut text = words(&first["text"]).unwrap_or_default();
    if let Some(at) = stops.iter().filter_map(|stop| text.find(stop.as_str())).min() {
        text.truncate(at);
        finish = Finish::Stop;
    }
    let tokens = &answer.tokens;
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let mut other = Map::new();
    let detail = words(&kept["block"]).or_else(|| words(&first["finish"]));
    other.insert("why".to_owned(), why.into());
    other.insert("call".to_owned(), answer.call.clone().into());
    if answer.from_ledger {
        other.insert("from_ledger".to_owned(), true.into());
    }
    let alternatives = answers
        .iter()
        .filter(|_| answers.len() > 1)
        .map(|one| plugin_api::Alternative {
            text: words(&one["text"]).unwrap_or_default(),
            thinking: words(&one["thinking"]),
            score: None,
        });
    Reply {
        text,
        thinking: words(&first["thinking"]),
        alternatives: alternatives.collect(),
        finish,
        finish_detail: detail,
        tool_calls: first["tool_calls"].as_array().cloned().unwrap_or_default(),
        model_version: answer.model_version.clone(),
        request_id: words(&kept["request_id"]),
        usage: Usage {
            prompt_tokens: small(tokens.prompt),
            generated_tokens: small(tokens.answer + tokens.thoughts),
            thinking_tokens: small(tokens.thoughts),
            cached_tokens: small(tokens.cached),
            dollars: answer.dollars,
            ..Usage::default()
        },
        timing: plugin_api::Timing {
            total_ms: answer.latency.as_secs_f64() * 1e3,
            ..Default::default()
        },
        other,
        ..Reply::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn read(body: Value, stops: &[String]) -> Reply {
        let digest = Gemini.digest(&body).unwrap();
        let answer = Answer {
            reply: digest.reply,
            tokens: digest.tokens,
            model_version: digest.model_version,
            dollars: None,
            call: "c".to_owned(),
            attempt: 1,
            from_ledger: false,
            latency: Duration::ZERO,
            first_token: None,
            address: Some(0),
        };
        reply(&answer, stops)
    }

    #[track_caller]
    fn check(body: Value, text: &str, finish: Finish, why: &str) {
        let reply = read(body, &[]);
        assert_eq!(
            (reply.text.as_str(), reply.finish, reply.other["why"].as_str()),
            (text, finish, Some(why))
        );
    }

    #[test]
    fn every_ending_has_its_word() {
        let candidate = |parts: Value, finish: &str| json!({ "candidates": [{ "content": { "parts": parts }, "finishReason": finish }] });
        check(
            candidate(
                json!([{ "text": "a" }, { "thought": true, "text": "x" }, { "text": "b" }]),
                "STOP",
            ),
            "ab",
            Finish::Stop,
            "ok",
        );
        check(
            candidate(json!([{ "text": "a" }]), "MAX_TOKENS"),
            "a",
            Finish::Length,
            "cut_short",
        );
        check(
            json!({ "candidates": [{ "content": {}, "finishReason": "MAX_TOKENS" }] }),
            "",
            Finish::Length,
            "cut_short",
        );
        check(
            json!({ "candidates": [{ "content": { "role": "model" }, "finishReason": "STOP" }] }),
            "",
            Finish::Stop,
            "empty",
        );
        check(
            candidate(json!([{ "text": "a" }]), "SAFETY"),
            "a",
            Finish::Filtered,
            "blocked_answer",
        );
        check(
            candidate(json!([]), "A_WORD_OF_NEXT_YEAR"),
            "",
            Finish::Filtered,
            "blocked_answer",
        );
        check(
            json!({ "promptFeedback": { "blockReason": "SAFETY" } }),
            "",
            Finish::Filtered,
            "blocked_prompt",
        );
        check(
            json!({ "candidates": [], "usageMetadata": {} }),
            "",
            Finish::Unknown,
            "empty",
        );
        check(
            candidate(json!([{ "functionCall": { "name": "f", "args": { "a": 1 } } }]), "STOP"),
            "",
            Finish::ToolCalls,
            "ok",
        );
        assert_eq!(Gemini.digest(&json!({ "hello": 1 })), None);
        assert_eq!(Gemini.digest(&json!([1])), None);
    }

    #[test]
    fn tokens_are_counted_as_the_service_bills_them() {
        let usage = json!({ "promptTokenCount": 1200, "cachedContentTokenCount": 800, "candidatesTokenCount": 90, "thoughtsTokenCount": 410 });
        let reply = read(
            json!({ "candidates": [], "usageMetadata": usage, "modelVersion": "v", "responseId": "r" }),
            &[],
        );
        assert_eq!(
            (
                reply.usage.prompt_tokens,
                reply.usage.generated_tokens,
                reply.usage.thinking_tokens
            ),
            (1200, 500, 410)
        );
        assert_eq!(
            (reply.model_version.as_deref(), reply.request_id.as_deref()),
            (Some("v"), Some("r"))
        );
    }

    #[test]
    fn stop_strings_that_the_service_did_not_take_cut_the_answer() {
        let body = json!({ "candidates": [{ "content": { "parts": [{ "text": "one two three" }] }, "finishReason": "STOP" }] });
        assert_eq!(read(body, &["three".to_owned(), " two".to_owned()]).text, "one");
    }
}
