//! Reads the answers of compatible servers, whole or streamed.

use plugin_api::{Alternative, Finish, Reply, TokenScore, Usage};
use remote::{Answer, Dialect, Digest, Tokens};
use serde_json::{Map, Value, json};

/// The dialect of OpenAI's service, which all compatible servers share.
#[derive(Debug, Clone, Copy)]
pub struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn key_header(&self) -> (&'static str, &'static str) {
        ("authorization", "Bearer ")
    }

    fn digest(&self, reply: &Value) -> Option<Digest> {
        // SGLang's native form answers with one object for each prompt, or a list of them; tokenizers answer with
        // tokens or a text.
        let native =
            reply.get("meta_info").is_some() || reply.get(0).is_some_and(|first| first.get("meta_info").is_some());
        let cut = ["tokens", "prompt"].iter().any(|name| reply.get(*name).is_some()) && reply.get("choices").is_none();
        if native || cut {
            return Some(Digest {
                reply: json!({ "native": reply }),
                ..Digest::default()
            });
        }
        let choices = reply["choices"].as_array()?;
        let ended = |choice: &Value| {
            !choice["finish_reason"].is_null()
                || reply["closed"] == true
                || choice.get("logprobs").is_some_and(Value::is_object)
        };
        // A whole reply without a choice is an empty answer and was charged; a stream without one was cut off.
        if choices.is_empty() && (reply["streamed"] == true || !reply["error"].is_null()) {
            return None;
        }
        if !choices.iter().all(|choice| choice.is_object() && ended(choice)) {
            return None;
        }
        let usage = &reply["usage"];
        let count = |value: &Value| value.as_u64().unwrap_or(0);
        let thoughts = count(&usage["completion_tokens_details"]["reasoning_tokens"]);
        let version = match (reply["model"].as_str(), reply["system_fingerprint"].as_str()) {
            (Some(model), Some(print)) if !print.is_empty() => Some(format!("{model} {print}")),
            (model, print) => model.or(print).map(str::to_owned),
        };
        let mut choices: Vec<Value> = choices.iter().map(answer).collect();
        choices.sort_by_key(|choice| choice["index"].as_u64());
        let mut kept = json!({ "choices": choices, "request_id": reply["id"], "fingerprint": reply["system_fingerprint"], "model": reply["model"] });
        for name in ["prompt_logprobs", "prompt_token_ids", "prompt_text"] {
            if let Some(value) = reply.get(name).filter(|value| !value.is_null()) {
                kept[name] = value.clone();
            }
        }
        Some(Digest {
            reply: kept,
            tokens: Tokens {
                prompt: count(&usage["prompt_tokens"]),
                cached: count(&usage["prompt_tokens_details"]["cached_tokens"]),
                // This API counts reasoning among the completion tokens.
                answer: count(&usage["completion_tokens"]).saturating_sub(thoughts),
                thoughts,
            },
            model_version: version,
        })
    }

    fn fold(&self, whole: &mut Value, event: &Value) -> Result<String, String> {
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            return Err(error["message"]
                .as_str()
                .map_or_else(|| error.to_string(), str::to_owned));
        }
        if !whole.is_object() {
            *whole = json!({ "choices": [], "streamed": true });
        }
        for name in ["id", "model", "system_fingerprint", "usage", "prompt_token_ids"] {
            if let Some(value) = event.get(name).filter(|value| !value.is_null()) {
                whole[name] = value.clone();
            }
        }
        let mut words = String::new();
        for piece in event["choices"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().unwrap_or(0);
            let Some(choices) = whole["choices"].as_array_mut() else {
                continue;
            };
            let place = choices
                .iter()
                .position(|choice| choice["index"] == index)
                .unwrap_or_else(|| {
                    choices.push(json!({ "index": index, "message": { "content": "" }, "finish_reason": null }));
                    choices.len() - 1
                });
            let choice = &mut choices[place];
            let delta = &piece["delta"];
            let text = delta["content"]
                .as_str()
                .or_else(|| piece["text"].as_str())
                .unwrap_or_default();
            append(&mut choice["message"]["content"], text);
            for name in ["reasoning", "reasoning_content", "refusal"] {
                if let Some(text) = delta[name].as_str() {
                    append(&mut choice["message"][name], text);
                }
            }
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                fold_call(&mut choice["message"]["tool_calls"], call);
            }
            for scored in piece["logprobs"]["content"].as_array().into_iter().flatten() {
                if !choice["scored"].is_array() {
                    choice["scored"] = json!([]);
                }
                choice["scored"]
                    .as_array_mut()
                    .into_iter()
                    .for_each(|list| list.push(scored.clone()));
            }
            if !piece["finish_reason"].is_null() {
                choice["finish_reason"] = piece["finish_reason"].clone();
            }
            if index == 0 {
                words.push_str(text);
            }
        }
        Ok(words)
    }

    fn offers(&self, listed: &Value) -> Vec<String> {
        let models = listed["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        models
            .iter()
            .filter_map(|model| Some(model["id"].as_str()?.to_owned()))
            .collect()
    }

    fn list_path(&self) -> &'static str {
        "/models"
    }
}

fn append(text: &mut Value, more: &str) {
    let known = text.as_str().unwrap_or_default();
    *text = format!("{known}{more}").into();
}

/// Adds a piece of a tool call, whose arguments arrive in fragments.
fn fold_call(calls: &mut Value, piece: &Value) {
    if !calls.is_array() {
        *calls = json!([]);
    }
    let Some(calls) = calls.as_array_mut() else { return };
    let index = piece["index"].as_u64().unwrap_or(calls.len() as u64) as usize;
    while calls.len() <= index.min(127) {
        calls.push(json!({ "type": "function", "function": { "name": "", "arguments": "" } }));
    }
    let Some(call) = calls.get_mut(index) else { return };
    if let Some(id) = piece.get("id").filter(|id| !id.is_null()) {
        call["id"] = id.clone();
    }
    for name in ["name", "arguments"] {
        append(
            &mut call["function"][name],
            piece["function"][name].as_str().unwrap_or_default(),
        );
    }
}

/// A choice of either kind of completion: text, reasoning, tool calls, the reason for the end, and log-probabilities.
fn answer(choice: &Value) -> Value {
    let message = &choice["message"];
    let text = message["content"].as_str().or_else(|| choice["text"].as_str());
    let thinking = message["reasoning"]
        .as_str()
        .or_else(|| message["reasoning_content"].as_str());
    let mut kept = json!({
        "index": choice["index"].as_u64().unwrap_or(0), "text": text, "thinking": thinking, "refusal": message["refusal"],
        "tool_calls": message["tool_calls"], "finish": choice["finish_reason"],
    });
    for name in ["logprobs", "scored", "prompt_logprobs", "prompt_token_ids", "token_ids"] {
        if let Some(value) = choice.get(name).filter(|value| !value.is_null()) {
            kept[name] = value.clone();
        }
    }
    kept
}

/// How to read an answer's text.
#[derive(Debug, Clone, Default)]
pub struct Reading<'a> {
    pub stops: &'a [String],
    /// Whether the text may contain reasoning in tags.
    pub thinks: bool,
}

/// Makes a reply of an answer. What the contract has no field for is kept under fixed names.
pub fn reply(answer: &Answer, reading: &Reading<'_>) -> Reply {
    let kept = &answer.reply;
    let none = Value::Null;
    let choices = kept["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = choices.first().unwrap_or(&none);
    let words = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let (mut text, thinking) = texts(first, reading);
    let calls = first["tool_calls"].as_array().cloned().unwrap_or_default();
    let refusal = words(&first["refusal"]);
    let (mut finish, why) = match first["finish"].as_str() {
        Some("content_filter") => (Finish::Filtered, "blocked_answer"),
        _ if refusal.is_some() && text.is_empty() => (Finish::Filtered, "blocked_answer"),
        Some("length") => (Finish::Length, "cut_short"),
        Some("tool_calls" | "function_call") => (Finish::ToolCalls, "ok"),
        _ if !calls.is_empty() => (Finish::ToolCalls, "ok"),
        Some("stop") | None if text.is_empty() => (Finish::Stop, "empty"),
        Some("stop") | None => (Finish::Stop, "ok"),
        Some("abort" | "cancelled") => (Finish::Cancelled, "cut_short"),
        Some(_) => (Finish::Unknown, "ok"),
    };
    if let Some(at) = first_stop(&text, reading.stops) {
        text.truncate(at);
        finish = Finish::Stop;
    }
    let mut other = Map::new();
    other.insert("why".to_owned(), why.into());
    other.insert("call".to_owned(), answer.call.clone().into());
    if answer.from_ledger {
        other.insert("from_ledger".to_owned(), true.into());
    }
    if let Some(refusal) = refusal {
        other.insert("refusal".to_owned(), refusal.into());
    }
    for name in ["fingerprint", "prompt_text"] {
        if let Some(value) = words(&kept[name]) {
            other.insert(name.to_owned(), value.into());
        }
    }
    let ids = [&kept["prompt_token_ids"], &first["prompt_token_ids"]]
        .into_iter()
        .find(|ids| ids.is_array());
    if let Some(ids) = ids {
        other.insert(
            "prompt_ids_hash".to_owned(),
            remote::sha256_hex(ids.to_string().as_bytes()).into(),
        );
    }
    let tokens = &answer.tokens;
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let mut flags = Vec::new();
    let scored = scored(first);
    if scored.iter().any(|token| token.logprob.is_nan()) {
        flags.push("nan-logits".to_owned());
    }
    let alternatives = choices.iter().filter(|_| choices.len() > 1).map(|choice| {
        let (text, thinking) = texts(choice, reading);
        Alternative {
            text,
            thinking,
            score: None,
        }
    });
    Reply {
        alternatives: alternatives.collect(),
        text,
        thinking,
        finish,
        finish_detail: words(&first["finish"]),
        tool_calls: calls,
        tokens: scored,
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
            first_token_ms: answer.first_token.map(|time| time.as_secs_f64() * 1e3),
            total_ms: answer.latency.as_secs_f64() * 1e3,
            ..Default::default()
        },
        flags,
        other,
        ..Reply::default()
    }
}

/// Where the first of the stop strings begins.
pub fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()))
        .min()
}

/// The answer and its reasoning, separated if the server did not do so.
fn texts(choice: &Value, reading: &Reading<'_>) -> (String, Option<String>) {
    let text = choice["text"].as_str().unwrap_or_default();
    let thinking = choice["thinking"]
        .as_str()
        .filter(|text| !text.trim().is_empty())
        .map(str::to_owned);
    if thinking.is_some() || !reading.thinks {
        return (text.to_owned(), thinking);
    }
    let opened = text.trim_start().strip_prefix("<think>");
    match (opened, text.split_once("</think>")) {
        (_, Some((before, after))) => {
            let before = before.trim_start();
            let before = before.strip_prefix("<think>").unwrap_or(before).trim();
            (
                after.trim_start().to_owned(),
                Some(before.to_owned()).filter(|text| !text.is_empty()),
            )
        }
        // Reasoning that was never closed.
        (Some(inside), None) => (String::new(), Some(inside.trim().to_owned())),
        (None, None) => (text.to_owned(), None),
    }
}

/// Generated tokens with their log-probabilities, in either of the forms that servers use.
pub fn scored(choice: &Value) -> Vec<TokenScore> {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let one = |entry: &Value| TokenScore {
        text: entry["token"].as_str().unwrap_or_default().to_owned(),
        id: entry["id"].as_u64().and_then(|id| u32::try_from(id).ok()),
        logprob: number(&entry["logprob"]),
        top: Vec::new(),
    };
    let listed = [&choice["logprobs"]["content"], &choice["scored"]]
        .into_iter()
        .find_map(Value::as_array);
    if let Some(entries) = listed {
        let with_top = |entry: &Value| TokenScore {
            top: entry["top_logprobs"]
                .as_array()
                .into_iter()
                .flatten()
                .map(one)
                .collect(),
            ..one(entry)
        };
        return entries.iter().map(with_top).collect();
    }
    let columns = &choice["logprobs"];
    let Some(tokens) = columns["tokens"].as_array() else {
        return Vec::new();
    };
    let row = |(place, token): (usize, &Value)| {
        let mut top: Vec<TokenScore> = columns["top_logprobs"][place]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(text, logprob)| TokenScore {
                text: text.clone(),
                logprob: number(logprob),
                ..TokenScore::default()
            })
            .collect();
        top.sort_by(|a, b| b.logprob.total_cmp(&a.logprob));
        TokenScore {
            text: token.as_str().unwrap_or_default().to_owned(),
            logprob: number(&columns["token_logprobs"][place]),
            top,
            id: None,
        }
    };
    tokens.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    pub fn answer_of(body: &Value) -> Answer {
        let digest = OpenAi.digest(body).expect("an answer");
        Answer {
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
        }
    }

    fn body(message: Value, finish: Value) -> Value {
        json!({ "id": "r", "model": "m", "system_fingerprint": "f", "choices": [{ "index": 0, "message": message, "finish_reason": finish }],
                "usage": { "prompt_tokens": 9, "completion_tokens": 7, "completion_tokens_details": { "reasoning_tokens": 3 } } })
    }

    #[track_caller]
    fn check(message: Value, finish: &str, text: &str, thinking: Option<&str>, ending: Finish, why: &str) {
        let reading = Reading {
            thinks: true,
            stops: &[],
        };
        let reply = reply(&answer_of(&body(message, json!(finish))), &reading);
        assert_eq!(
            (reply.text.as_str(), reply.thinking.as_deref(), reply.finish),
            (text, thinking, ending)
        );
        assert_eq!(reply.other["why"], why);
        assert_eq!((reply.usage.generated_tokens, reply.usage.thinking_tokens), (7, 3));
    }

    #[test]
    fn every_ending_has_its_word() {
        check(json!({ "content": "a" }), "stop", "a", None, Finish::Stop, "ok");
        check(
            json!({ "content": "a", "reasoning": "x" }),
            "stop",
            "a",
            Some("x"),
            Finish::Stop,
            "ok",
        );
        check(
            json!({ "content": "a", "reasoning_content": "x" }),
            "stop",
            "a",
            Some("x"),
            Finish::Stop,
            "ok",
        );
        check(
            json!({ "content": "<think>\nx\n</think>\n\na" }),
            "stop",
            "a",
            Some("x"),
            Finish::Stop,
            "ok",
        );
        check(
            json!({ "content": null, "reasoning": "x" }),
            "length",
            "",
            Some("x"),
            Finish::Length,
            "cut_short",
        );
        check(json!({ "content": "" }), "stop", "", None, Finish::Stop, "empty");
        check(
            json!({ "content": "a" }),
            "content_filter",
            "a",
            None,
            Finish::Filtered,
            "blocked_answer",
        );
        check(
            json!({ "content": null, "refusal": "no" }),
            "stop",
            "",
            None,
            Finish::Filtered,
            "blocked_answer",
        );
        check(
            json!({ "content": null, "tool_calls": [{ "function": { "name": "f" } }] }),
            "tool_calls",
            "",
            None,
            Finish::ToolCalls,
            "ok",
        );
        assert_eq!(OpenAi.digest(&body(json!({ "content": "a" }), Value::Null)), None);
        // A whole reply without a choice was charged; a stream without one, or an error, is not an answer.
        let none = json!({ "choices": [] });
        let said = reply(&answer_of(&none), &Reading::default());
        assert_eq!((said.text.as_str(), &said.other["why"]), ("", &json!("empty")));
        let mut stream = Value::Null;
        OpenAi.fold(&mut stream, &none).unwrap();
        assert_eq!(OpenAi.digest(&stream), None);
        assert_eq!(
            OpenAi.digest(&json!({ "choices": [], "error": { "message": "down" } })),
            None
        );
    }

    #[test]
    fn pieces_become_what_the_whole_would_be() {
        let mut whole = Value::Null;
        let mut said = String::new();
        for event in [
            json!({ "id": "r", "model": "m", "choices": [{ "index": 0, "delta": { "role": "assistant", "reasoning": "x" } }] }),
            json!({ "choices": [{ "index": 0, "delta": { "content": "a" } }] }),
            json!({ "choices": [{ "index": 0, "delta": { "content": "b", "tool_calls": [{ "index": 0, "id": "t", "function": { "name": "f", "arguments": "{\"a\"" } }] } }] }),
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": ": 1}" } }] } }] }),
        ] {
            said.push_str(&OpenAi.fold(&mut whole, &event).unwrap());
        }
        assert_eq!((said.as_str(), OpenAi.digest(&whole)), ("ab", None));
        OpenAi
            .fold(
                &mut whole,
                &json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
            )
            .unwrap();
        OpenAi
            .fold(&mut whole, &json!({ "choices": [], "usage": { "prompt_tokens": 5 } }))
            .unwrap();
        let reply = reply(&answer_of(&whole), &Reading::default());
        assert_eq!(
            (
                reply.text.as_str(),
                reply.thinking.as_deref(),
                reply.usage.prompt_tokens
            ),
            ("ab", Some("x"), 5)
        );
        assert_eq!(
            reply.tool_calls,
            [json!({ "type": "function", "function": { "name": "f", "arguments": "{\"a\": 1}" }, "id": "t" })]
        );
        assert!(
            OpenAi
                .fold(&mut whole, &json!({ "error": { "message": "out of memory" } }))
                .is_err()
        );
    }

    #[test]
    fn log_probabilities_are_read_in_both_shapes() {
        let columns = json!({ "logprobs": { "tokens": ["a", "b"], "token_logprobs": [-0.5, null], "top_logprobs": [{ "a": -0.5, "c": -0.25 }, null] } });
        let read = scored(&columns);
        assert_eq!((read[0].top[0].text.as_str(), read[0].logprob), ("c", -0.5));
        assert!(read[1].logprob.is_nan());
        let listed = json!({ "logprobs": { "content": [{ "token": "a", "logprob": -0.5, "top_logprobs": [{ "token": "c", "logprob": -0.25 }, { "token": "a", "logprob": -0.5 }] }] } });
        assert_eq!(scored(&listed)[0], read[0]);
    }
}
