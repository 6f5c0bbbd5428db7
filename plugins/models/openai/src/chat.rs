//! Makes the body of a request for free text.

use crate::engine::Kind;
use plugin_api::{Code, Error, Message, Part, Prompt, Result, Role, Sampling};
use remote::{AudioFormat, encode_clip};
use serde_json::{Map, Value, json};

/// The form of clips in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AudioPart {
    #[default]
    InputAudio,
    AudioUrl,
}

/// How reasoning is switched on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Switch {
    /// `chat_template_kwargs: {"enable_thinking": …}`
    Template,
    /// `reasoning_effort`
    Effort,
    #[default]
    None,
}

/// The settings and the engine's properties that apply to every request.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    pub kind: Kind,
    pub max_tokens: u32,
    pub thinking: Option<bool>,
    pub switch: Switch,
    pub part: AudioPart,
    pub format: AudioFormat,
    pub stream: bool,
    pub extra: Map<String, Value>,
}

/// Servers accept this many stop strings; the answer is searched for the others here.
const MOST_STOPS: usize = 4;

/// A request: its body, those of the prompt's wishes that are not in it, and the most tokens it may generate.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    pub json: Value,
    pub ignored: Vec<String>,
    pub max_tokens: u32,
}

/// The request for the next message of a conversation.
pub fn chat(prompt: &Prompt, sampling: &Sampling, model: &str, manner: &Manner) -> Result<Body> {
    let mut body = json!({ "model": model, "messages": messages(prompt, manner)? });
    let open = prompt.messages.last().is_some_and(|last| last.role == Role::Assistant);
    match manner.kind {
        _ if !open => {}
        Kind::Vllm | Kind::Sglang => {
            body["continue_final_message"] = true.into();
            body["add_generation_prompt"] = false.into();
        }
        Kind::Llamacpp => {} // it always continues a last message of the assistant
        Kind::LlamaCppPython | Kind::Ollama | Kind::Transformers | Kind::Openai => {
            return Err(Error::unsupported(
                "this server goes on with no answer that was begun for it",
            ));
        }
    }
    if !prompt.tools.is_empty() {
        body["tools"] = prompt.tools.clone().into();
        body["tool_choice"] = "auto".into();
    } else if manner.kind.takes_more_fields() {
        body["tool_choice"] = "none".into();
    }
    match (prompt.thinking.or(manner.thinking), manner.switch) {
        (Some(on), Switch::Template) => body["chat_template_kwargs"] = json!({ "enable_thinking": on }),
        (Some(on), Switch::Effort) => body["reasoning_effort"] = if on { "medium" } else { "none" }.into(),
        _ => {}
    }
    let mut body = finish(body, sampling, manner, true)?;
    if let Some(budget) = sampling.thinking_budget {
        match manner.kind {
            Kind::Vllm => body.json["thinking_token_budget"] = budget.into(),
            _ => return Err(Error::unsupported("this server keeps no budget for reasoning")),
        }
    }
    constrain(&mut body.json, sampling);
    if let Some(top) = sampling.top_logprobs {
        body.json["logprobs"] = true.into();
        body.json["top_logprobs"] = top.min(20).into();
    }
    Ok(body)
}

/// The request for the continuation of a text, which is given as tokens if they are known.
pub fn completion(text: &str, ids: Option<&[u32]>, sampling: &Sampling, model: &str, manner: &Manner) -> Result<Body> {
    let mut body = json!({ "model": model, "prompt": ids.map_or_else(|| json!(text), |ids| json!(ids)) });
    if ids.is_none() && matches!(manner.kind, Kind::Vllm | Kind::Sglang) {
        // The text already holds all special tokens; a server would add the first one again.
        body["add_special_tokens"] = false.into();
    }
    let mut body = finish(body, sampling, manner, false)?;
    if let Some(top) = sampling.top_logprobs {
        body.json["logprobs"] = top.clamp(1, 20).into();
    }
    Ok(body)
}

/// Adds the sampling. Every value is sent, because servers have defaults that no record shows.
fn finish(mut body: Value, sampling: &Sampling, manner: &Manner, chat: bool) -> Result<Body> {
    if sampling.beams.is_some_and(|beams| beams > 1) {
        return Err(Error::unsupported("this server has no beam search"));
    }
    let max_tokens = sampling.max_tokens.unwrap_or(manner.max_tokens);
    let mut ignored = Vec::new();
    body["max_tokens"] = max_tokens.into();
    let (more, all) = (manner.kind.takes_more_fields(), manner.kind.has_own_defaults());
    let llama = matches!(manner.kind, Kind::Llamacpp | Kind::LlamaCppPython);
    let decimal = |number: f32| number.to_string().parse::<f64>().map_or(Value::Null, Value::from);
    let temperature = sampling.temperature.or(all.then_some(0.0));
    let top_p = sampling.top_p.or(all.then_some(1.0));
    for (name, value) in [("temperature", temperature), ("top_p", top_p)] {
        if let Some(value) = value {
            body[name] = decimal(value);
        }
    }
    if let Some(seed) = sampling.seed {
        body["seed"] = (seed & 0x7fff_ffff_ffff_ffff).into();
    } else if all {
        body["seed"] = 0.into();
    }
    let wished = [
        ("top_k", sampling.top_k.is_some_and(|most| most > 1)),
        ("min_p", sampling.min_p.is_some_and(|least| least > 0.0)),
        (
            "repetition_penalty",
            sampling.repetition_penalty.is_some_and(|penalty| penalty != 1.0),
        ),
    ];
    let wished = wished.iter().filter(|(_, wished)| *wished).map(|(name, _)| *name);
    match manner.kind {
        _ if more => {
            // The whole vocabulary is 0 for llama.cpp and -1 for the others.
            let whole = if llama { 0 } else { -1 };
            body["top_k"] = sampling
                .top_k
                .filter(|most| *most > 0)
                .map_or(json!(whole), Value::from);
            body["min_p"] = decimal(sampling.min_p.unwrap_or(0.0));
            let penalty = if llama { "repeat_penalty" } else { "repetition_penalty" };
            body[penalty] = decimal(sampling.repetition_penalty.unwrap_or(1.0));
        }
        Kind::Transformers => {
            // This server adds one to the value and uses the sum as its repetition penalty.
            body["frequency_penalty"] = decimal(sampling.repetition_penalty.unwrap_or(1.0) - 1.0);
            ignored.extend(wished.filter(|name| *name != "repetition_penalty").map(str::to_owned));
        }
        _ => ignored.extend(wished.map(str::to_owned)),
    }
    if let Some(count) = sampling.n_best.filter(|count| *count > 1) {
        body["n"] = count.into();
    }
    if !sampling.stop.is_empty() {
        body["stop"] = sampling.stop.iter().take(MOST_STOPS).cloned().collect();
    }
    if manner.stream {
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
    }
    if chat && manner.kind == Kind::Vllm {
        body["return_token_ids"] = true.into();
    }
    lay_over(&mut body, &manner.extra);
    Ok(Body {
        json: body,
        ignored,
        max_tokens,
    })
}

fn constrain(body: &mut Value, sampling: &Sampling) {
    if let Some(schema) = &sampling.json_schema {
        body["response_format"] = json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": strict(schema) } });
    } else if !sampling.one_of.is_empty() {
        body["structured_outputs"] = json!({ "choice": sampling.one_of });
    }
}

/// A schema in the form that strict servers accept: every property is required and no other is allowed.
fn strict(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut map: Map<String, Value> = map.iter().map(|(key, value)| (key.clone(), strict(value))).collect();
            if map.get("type") == Some(&json!("object"))
                && let Some(properties) = map.get("properties").and_then(Value::as_object)
            {
                // Required properties keep their order, which is the order in which they are written.
                let mut required: Vec<Value> = map
                    .get("required")
                    .and_then(Value::as_array)
                    .cloned()
                    .unwrap_or_default();
                let missing: Vec<Value> = properties
                    .keys()
                    .map(|key| json!(key))
                    .filter(|key| !required.contains(key))
                    .collect();
                required.extend(missing);
                map.insert("required".to_owned(), required.into());
                map.insert("additionalProperties".to_owned(), false.into());
            }
            map.into()
        }
        Value::Array(items) => items.iter().map(strict).collect(),
        other => other.clone(),
    }
}

/// Merges a user's own fields into a body, objects into objects. A null removes a field.
fn lay_over(body: &mut Value, extra: &Map<String, Value>) {
    for (name, value) in extra {
        match (value, body.get_mut(name)) {
            (Value::Null, _) => drop(body.as_object_mut().and_then(|map| map.remove(name))),
            (Value::Object(inner), Some(known @ Value::Object(_))) => lay_over(known, inner),
            _ => body[name] = value.clone(),
        }
    }
}

/// The messages of a prompt, with clips.
pub fn messages(prompt: &Prompt, manner: &Manner) -> Result<Vec<Value>> {
    prompt
        .messages
        .iter()
        .map(|message| one(message, prompt, manner))
        .collect()
}

fn one(message: &Message, prompt: &Prompt, manner: &Manner) -> Result<Value> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        _ => {
            return Err(Error::unsupported(
                "a message has a role that this server does not know",
            ));
        }
    };
    let plain = message.parts.iter().all(|part| matches!(part, Part::Text { .. }));
    let content: Value = match plain {
        true => message.joined_text().into(),
        false => message
            .parts
            .iter()
            .map(|part| self::part(part, prompt, manner))
            .collect::<Result<Vec<_>>>()?
            .into(),
    };
    let mut json = json!({ "role": role, "content": content });
    if let Some(thinking) = &message.thinking
        && manner.kind.takes_more_fields()
    {
        json["reasoning_content"] = thinking.clone().into();
    }
    if !message.tool_calls.is_empty() {
        json["tool_calls"] = message
            .tool_calls
            .iter()
            .enumerate()
            .map(|(number, call)| tool_call(number, call))
            .collect();
    }
    if let Some(name) = &message.name {
        json["name"] = name.clone().into();
    }
    if message.role == Role::Tool {
        json["tool_call_id"] = "call_0".into();
    }
    Ok(json)
}

/// A tool call in the form of the wire, where arguments are a string.
fn tool_call(number: usize, call: &Value) -> Value {
    let function = call.get("function").unwrap_or(call);
    let arguments = match &function["arguments"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let id = call["id"]
        .as_str()
        .map_or_else(|| format!("call_{number}"), str::to_owned);
    json!({ "id": id, "type": "function", "function": { "name": function["name"], "arguments": arguments } })
}

fn part(part: &Part, prompt: &Prompt, manner: &Manner) -> Result<Value> {
    match part {
        Part::Text { text } => Ok(json!({ "type": "text", "text": text })),
        Part::Clip { clip, .. } => {
            let missing = || {
                Error::new(
                    Code::CLIP,
                    format!("the prompt names clip {clip}, which it does not have"),
                )
            };
            let data = encode_clip(prompt.clips.get(*clip).ok_or_else(missing)?, manner.format);
            Ok(match manner.part {
                AudioPart::InputAudio => {
                    json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } })
                }
                AudioPart::AudioUrl => {
                    json!({ "type": "audio_url", "audio_url": { "url": format!("data:audio/wav;base64,{data}") } })
                }
            })
        }
        _ => Err(Error::unsupported("a message has a part of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner(kind: Kind) -> Manner {
        Manner {
            kind,
            max_tokens: 1024,
            ..Manner::default()
        }
    }

    #[test]
    fn every_sampling_value_is_sent_to_engines_and_none_that_openai_lacks() {
        let prompt = Prompt::new([Message::user("2 + 2?")]);
        let local = chat(&prompt, &Sampling::greedy(64), "m", &manner(Kind::Sglang)).unwrap();
        let expected = json!({ "model": "m", "messages": [{ "role": "user", "content": "2 + 2?" }], "tool_choice": "none", "max_tokens": 64,
            "temperature": 0.0, "top_p": 1.0, "seed": 0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0 });
        assert_eq!(local.json, expected);
        let hosted = chat(&prompt, &Sampling::greedy(64), "m", &manner(Kind::Openai)).unwrap();
        assert_eq!(
            hosted.json,
            json!({ "model": "m", "messages": [{ "role": "user", "content": "2 + 2?" }], "max_tokens": 64, "temperature": 0.0 })
        );
        let wishes = Sampling {
            top_k: Some(5),
            stop: vec!["a".into(); 6],
            ..Sampling::greedy(1)
        };
        let hosted = chat(&prompt, &wishes, "m", &manner(Kind::Openai)).unwrap();
        assert_eq!(
            (hosted.ignored, hosted.json["stop"].as_array().unwrap().len()),
            (vec!["top_k".to_owned()], 4)
        );
    }

    #[test]
    fn a_users_own_fields_lie_over_the_body() {
        let extra = json!({ "seed": null, "chat_template_kwargs": { "x": 1 }, "temperature": 0.5 });
        let manner = Manner {
            extra: extra.as_object().unwrap().clone(),
            switch: Switch::Template,
            ..manner(Kind::Vllm)
        };
        let prompt = Prompt {
            thinking: Some(false),
            ..Prompt::new([Message::user("a")])
        };
        let body = chat(&prompt, &Sampling::greedy(1), "m", &manner).unwrap().json;
        assert_eq!((body.get("seed"), &body["temperature"]), (None, &json!(0.5)));
        assert_eq!(
            body["chat_template_kwargs"],
            json!({ "enable_thinking": false, "x": 1 })
        );
    }

    #[test]
    fn a_begun_answer_is_gone_on_with_where_that_works() {
        let prompt = Prompt::new([Message::user("a"), Message::assistant("b")]);
        assert_eq!(
            chat(&prompt, &Sampling::greedy(1), "m", &manner(Kind::Vllm))
                .unwrap()
                .json["continue_final_message"],
            true
        );
        assert_eq!(
            chat(&prompt, &Sampling::greedy(1), "m", &manner(Kind::Openai))
                .unwrap_err()
                .code,
            Code::UNSUPPORTED
        );
    }

    #[test]
    fn schemas_are_made_strict_and_keep_the_order_of_what_is_required() {
        let schema = json!({ "type": "object", "required": ["reason", "verdict"], "properties": { "verdict": { "type": "string" }, "reason": { "type": "string" }, "more": { "type": "object", "properties": { "x": {} } } } });
        let strict = strict(&schema);
        assert_eq!(strict["required"], json!(["reason", "verdict", "more"]));
        assert_eq!(
            (
                &strict["additionalProperties"],
                &strict["properties"]["more"]["required"]
            ),
            (&json!(false), &json!(["x"]))
        );
    }

    #[test]
    fn sound_stands_in_the_part_that_the_server_knows() {
        let mut prompt = Prompt::new([Message {
            parts: vec![Part::text("x"), Part::clip(0)],
            ..Message::default()
        }]);
        prompt.clips = vec![plugin_api::Clip::new(16_000, vec![0.0; 4])];
        let body = |part| {
            chat(
                &prompt,
                &Sampling::greedy(1),
                "m",
                &Manner {
                    part,
                    ..manner(Kind::Vllm)
                },
            )
            .unwrap()
            .json["messages"][0]["content"][1]
                .clone()
        };
        assert_eq!(body(AudioPart::InputAudio)["input_audio"]["format"], "wav");
        assert!(
            body(AudioPart::AudioUrl)["audio_url"]["url"]
                .as_str()
                .unwrap()
                .starts_with("data:audio/wav;base64,")
        );
    }
}
