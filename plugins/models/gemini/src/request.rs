//! Makes the service's request of a prompt.

use crate::quirks::Quirks;
use plugin_api::{Code, Error, Message, Part, Prompt, Result, Role, Sampling, Want};
use remote::{AudioFormat, encode_clip};
use serde_json::{Map, Value, json};

/// The service accepts this many stop strings; the finished answer is cut at the others.
const MOST_STOPS: usize = 5;

/// The settings that apply to every request.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    pub max_tokens: u32,
    /// The level of thinking for prompts that set none.
    pub thinking: Option<String>,
    pub safety: Option<String>,
    pub service_tier: Option<String>,
    pub extra: Map<String, Value>,
    pub audio: AudioFormat,
}

/// The body of a request, and those of the prompt's wishes that the service cannot fulfil.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub body: Value,
    pub ignored: Vec<String>,
    pub flags: Vec<String>,
    pub max_tokens: u32,
}

pub fn request(prompt: &Prompt, manner: &Manner, quirks: &Quirks) -> Result<Request> {
    let Want::Text { sampling } = &prompt.want else {
        return Err(Error::unsupported("this service gives no log-probabilities of options"));
    };
    if prompt.plain {
        return Err(Error::unsupported(
            "this service answers conversations; it continues no plain text",
        ));
    }
    let mut body = json!({ "contents": contents(prompt, manner)? });
    if prompt.messages.last().is_some_and(|last| last.role == Role::Assistant) && !quirks.prefill {
        return Err(Error::unsupported(
            "this model goes on with no answer that was begun for it",
        ));
    }
    let system: Vec<Value> = prompt
        .messages
        .iter()
        .filter(|message| message.role == Role::System)
        .map(|message| json!({ "text": message.joined_text() }))
        .collect();
    if !system.is_empty() {
        body["systemInstruction"] = json!({ "parts": system });
    }
    let max_tokens = sampling.max_tokens.unwrap_or(manner.max_tokens);
    let mut request = Request {
        body,
        ignored: Vec::new(),
        flags: Vec::new(),
        max_tokens,
    };
    request.sampling(sampling, quirks)?;
    request.thinking(prompt, sampling, manner, quirks)?;
    if !prompt.tools.is_empty() {
        let declarations: Vec<Value> = prompt
            .tools
            .iter()
            .map(|tool| tool.get("function").unwrap_or(tool).clone())
            .collect();
        request.body["tools"] = json!([{ "functionDeclarations": declarations }]);
    }
    if let Some(threshold) = &manner.safety {
        let categories = ["HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT"];
        let setting =
            |category: &&str| json!({ "category": format!("HARM_CATEGORY_{category}"), "threshold": threshold });
        request.body["safetySettings"] = categories.iter().map(setting).collect();
    }
    if let Some(tier) = &manner.service_tier {
        request.body["serviceTier"] = json!(tier);
    }
    lay_over(&mut request.body, &manner.extra);
    Ok(request)
}

impl Request {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.body["generationConfig"][name] = value.into();
    }

    fn sampling(&mut self, sampling: &Sampling, quirks: &Quirks) -> Result<()> {
        self.set("maxOutputTokens", self.max_tokens);
        let wishes = [
            ("temperature", sampling.temperature.map(decimal)),
            ("topP", sampling.top_p.map(decimal)),
            ("topK", sampling.top_k.map(Value::from)),
        ];
        for (name, value) in wishes {
            match value {
                Some(_) if quirks.ignores(name) => self.ignored.push(name.to_owned()),
                Some(value) => self.set(name, value),
                None => {}
            }
        }
        let unknown = [
            ("min_p", sampling.min_p.is_some_and(|least| least > 0.0)),
            (
                "repetition_penalty",
                sampling.repetition_penalty.is_some_and(|penalty| penalty != 1.0),
            ),
        ];
        self.ignored.extend(
            unknown
                .iter()
                .filter(|(_, wished)| *wished)
                .map(|(name, _)| (*name).to_owned()),
        );
        if sampling.beams.is_some_and(|beams| beams > 1) {
            return Err(Error::unsupported("this service has no beam search"));
        }
        if let Some(count) = sampling.n_best.filter(|count| *count > 1) {
            if quirks.refuses("candidateCount") {
                return Err(Error::unsupported("this model gives one answer to a prompt"));
            }
            self.set("candidateCount", count);
        }
        if let Some(seed) = sampling.seed {
            // The service's seeds have 32 bits.
            self.set("seed", (seed & 0x7fff_ffff) as u32);
        }
        if !sampling.stop.is_empty() {
            self.set(
                "stopSequences",
                sampling.stop.iter().take(MOST_STOPS).cloned().collect::<Vec<_>>(),
            );
        }
        if let Some(schema) = &sampling.json_schema {
            self.set("responseMimeType", "application/json");
            self.set("responseJsonSchema", schema.clone());
        } else if !sampling.one_of.is_empty() {
            self.set("responseMimeType", "text/x.enum");
            self.set("responseSchema", json!({ "type": "STRING", "enum": sampling.one_of }));
        }
        Ok(())
    }

    fn thinking(&mut self, prompt: &Prompt, sampling: &Sampling, manner: &Manner, quirks: &Quirks) -> Result<()> {
        let wished = match (prompt.thinking, &manner.thinking) {
            (Some(false), _) => Some("OFF".to_owned()),
            (None, level) => level.clone(),
            (Some(true), level) => level.clone().filter(|level| level != "OFF" && level != "MINIMAL"),
        };
        let mut config = Map::new();
        if quirks.by_budget() {
            let budget = match (wished.as_deref(), sampling.thinking_budget) {
                (Some("OFF" | "MINIMAL"), _) => Some(0),
                (_, Some(budget)) => Some(budget),
                _ => None,
            };
            if let Some(budget) = budget {
                if budget < quirks.least_budget {
                    self.flags.push("thinking-stays-on".to_owned());
                }
                config.insert("thinkingBudget".to_owned(), budget.max(quirks.least_budget).into());
            }
        } else {
            if sampling.thinking_budget.is_some() {
                self.ignored.push("thinking_budget".to_owned());
            }
            match wished.as_deref() {
                Some("OFF") if quirks.can_rest() => drop(config.insert("thinkingLevel".to_owned(), "MINIMAL".into())),
                Some("OFF") => {
                    // Thinking that cannot be switched off is billed, so the lowest level is requested, and records
                    // say so.
                    if let Some(lowest) = quirks.thinking.first() {
                        config.insert("thinkingLevel".to_owned(), lowest.clone().into());
                        self.flags.push("thinking-stays-on".to_owned());
                    }
                }
                Some(level) => {
                    if !quirks.thinking.is_empty() && !quirks.thinking.iter().any(|known| known == level) {
                        let known = quirks.thinking.join("`, `").to_lowercase();
                        let error = Error::new(
                            Code::SETTINGS,
                            format!("this model has no thinking level `{}`", level.to_lowercase()),
                        );
                        return Err(error.help(format!("it has `{known}`")));
                    }
                    config.insert("thinkingLevel".to_owned(), level.into());
                }
                None => {}
            }
        }
        if prompt.thinking == Some(true) {
            config.insert("includeThoughts".to_owned(), true.into());
        }
        if !config.is_empty() {
            self.set("thinkingConfig", config);
        }
        Ok(())
    }
}

/// A number in its shortest decimal form: 0.9 and not 0.8999999761581421.
fn decimal(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
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

fn contents(prompt: &Prompt, manner: &Manner) -> Result<Vec<Value>> {
    let mut contents: Vec<Value> = Vec::new();
    for message in prompt.messages.iter().filter(|message| message.role != Role::System) {
        let role = match message.role {
            Role::Assistant => "model",
            Role::User | Role::Tool => "user",
            _ => {
                return Err(Error::unsupported(
                    "a message has a role that this service does not know",
                ));
            }
        };
        let parts = parts(message, prompt, manner)?;
        // Turns must alternate, so consecutive messages of one side become one turn.
        match contents.last_mut() {
            Some(last) if last["role"] == role => {
                if let Some(known) = last["parts"].as_array_mut() {
                    known.extend(parts);
                }
            }
            _ => contents.push(json!({ "role": role, "parts": parts })),
        }
    }
    Ok(contents)
}

fn parts(message: &Message, prompt: &Prompt, manner: &Manner) -> Result<Vec<Value>> {
    if message.role == Role::Tool {
        let text = message.joined_text();
        let response = serde_json::from_str::<Value>(&text)
            .ok()
            .filter(Value::is_object)
            .unwrap_or_else(|| json!({ "result": text }));
        return Ok(vec![
            json!({ "functionResponse": { "name": message.name.clone().unwrap_or_default(), "response": response } }),
        ]);
    }
    let mut parts = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        parts.push(match part {
            Part::Text { text } => json!({ "text": text }),
            Part::Clip { clip, .. } => {
                let clip = prompt.clips.get(*clip).ok_or_else(|| {
                    Error::new(
                        Code::CLIP,
                        format!("the prompt names clip {clip}, which it does not have"),
                    )
                })?;
                json!({ "inlineData": { "mimeType": "audio/wav", "data": encode_clip(clip, manner.audio) } })
            }
            _ => {
                return Err(Error::unsupported("a message has a part of an unknown kind"));
            }
        });
    }
    for call in &message.tool_calls {
        let function = call.get("function").unwrap_or(call);
        let arguments = match &function["arguments"] {
            Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| json!({ "text": text })),
            other => other.clone(),
        };
        parts.push(json!({ "functionCall": { "name": function["name"], "args": arguments } }));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manner() -> Manner {
        Manner {
            max_tokens: 4096,
            ..Manner::default()
        }
    }

    fn body(model: &str, prompt: &Prompt, manner: &Manner) -> Request {
        request(prompt, manner, &Quirks::of(model, None).unwrap()).unwrap()
    }

    #[test]
    fn a_conversation_becomes_contents() {
        let prompt = Prompt::new([
            Message::system("Be brief."),
            Message::user("a"),
            Message::user("b"),
            Message::assistant("c"),
            Message::user("d"),
        ]);
        let body = body("gemini-3.8-flash", &prompt, &manner()).body;
        assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "Be brief." }] }));
        let expected = json!([
            { "role": "user", "parts": [{ "text": "a" }, { "text": "b" }] },
            { "role": "model", "parts": [{ "text": "c" }] },
            { "role": "user", "parts": [{ "text": "d" }] },
        ]);
        assert_eq!(
            (body["contents"].clone(), body["generationConfig"].clone()),
            (expected, json!({ "maxOutputTokens": 4096 }))
        );
    }

    #[test]
    fn what_a_model_ignores_is_listed_and_not_sent() {
        let sampling = Sampling {
            temperature: Some(0.0),
            top_p: Some(0.9),
            seed: Some(7),
            stop: vec!["X".to_owned(); 7],
            ..Sampling::greedy(9)
        };
        let prompt = Prompt::new([Message::user("a")]).sample(sampling);
        let new = body("gemini-3.8-flash", &prompt, &manner());
        assert_eq!(new.ignored, ["temperature", "topP"]);
        assert_eq!(
            new.body["generationConfig"],
            json!({ "maxOutputTokens": 9, "seed": 7, "stopSequences": ["X", "X", "X", "X", "X"] })
        );
        let old = body("gemini-2.5-flash", &prompt, &manner());
        assert_eq!(
            (old.ignored.len(), &old.body["generationConfig"]["topP"]),
            (0, &json!(0.9))
        );
    }

    #[test]
    fn thinking_is_said_as_the_model_wants_to_hear_it() {
        let thinking = |model: &str, wish: Option<bool>, level: Option<&str>| {
            let prompt = Prompt {
                thinking: wish,
                ..Prompt::new([Message::user("a")])
            };
            let manner = Manner {
                thinking: level.map(str::to_owned),
                ..manner()
            };
            let request = body(model, &prompt, &manner);
            (
                request.body["generationConfig"]["thinkingConfig"].clone(),
                request.flags,
            )
        };
        assert_eq!(thinking("gemini-3.8-flash", None, None).0, Value::Null);
        assert_eq!(
            thinking("gemini-3.8-flash", None, Some("HIGH")).0,
            json!({ "thinkingLevel": "HIGH" })
        );
        assert_eq!(
            thinking("gemini-3.8-flash", Some(false), None),
            (json!({ "thinkingLevel": "LOW" }), vec!["thinking-stays-on".to_owned()])
        );
        assert_eq!(
            thinking("gemini-3.6-flash", Some(false), None),
            (json!({ "thinkingLevel": "MINIMAL" }), vec![])
        );
        assert_eq!(
            thinking("gemini-2.5-flash", Some(false), None).0,
            json!({ "thinkingBudget": 0 })
        );
        assert_eq!(
            thinking("gemini-2.5-pro", Some(false), None).0,
            json!({ "thinkingBudget": 128 })
        );
        assert_eq!(
            thinking("gemini-3.8-flash", Some(true), None).0,
            json!({ "includeThoughts": true })
        );
    }

    #[test]
    fn sound_and_tools_have_their_places() {
        let mut prompt = Prompt::new([Message {
            parts: vec![Part::clip(0), Part::text("What is it?")],
            ..Message::default()
        }]);
        prompt.clips = vec![plugin_api::Clip::new(16_000, vec![0.0; 8])];
        prompt.tools = vec![json!({ "type": "function", "function": { "name": "find", "parameters": {} } })];
        let body = body("gemini-3.8-flash", &prompt, &manner()).body;
        assert_eq!(body["contents"][0]["parts"][0]["inlineData"]["mimeType"], "audio/wav");
        assert_eq!(
            body["tools"],
            json!([{ "functionDeclarations": [{ "name": "find", "parameters": {} }] }])
        );
    }

    #[test]
    fn what_the_service_cannot_do_is_refused() {
        let quirks = Quirks::of("gemini-3.8-flash", None).unwrap();
        for prompt in [
            Prompt::plain("a"),
            Prompt::new([Message::user("a")]).choose(["b"]),
            Prompt::new([Message::user("a"), Message::assistant("b")]),
        ] {
            assert_eq!(
                request(&prompt, &manner(), &quirks).unwrap_err().code,
                Code::UNSUPPORTED
            );
        }
    }
}
