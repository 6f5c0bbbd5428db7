//! Finds a server's capabilities by their effect: servers answer 200 to fields that they ignore, so each probe looks
//! for a difference. There are about twenty short requests; the findings are kept, so that a continued run does not
//! repeat them.

use crate::chat::{AudioPart, Switch};
use crate::choices::{continued, echo_body};
use crate::engine::{Engine, Kind};
use crate::forced::{self, Before};
use crate::tokens::{SAMPLE, detokenize, ids, text_of, tokenize};
use plugin_api::Clip;
use remote::{AudioFormat, Client, encode_clip};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// No probe begins after this time.
const BUDGET: Duration = Duration::from_secs(10);

/// How much longer a probe may take that began within the budget.
const LAST: Duration = Duration::from_secs(3);
const OUT_OF_STEP: &str = "log-probabilities that belong to the next token: out of step by one, and not used";

/// The form in which a prompt's log-probabilities are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    InStep,
    /// Each value belongs to the next token.
    OutOfStep,
}

/// The findings, and the evidence for them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// The least `max_tokens` with which `echo` gives log-probabilities of the prompt.
    pub echo: Option<u32>,
    /// SGLang's own form gives them.
    pub native: bool,
    /// A forced token comes with the model's own log-probability.
    pub forced: bool,
    /// It continues an answer that was begun, and gives the log-probabilities of the continuation.
    pub continues: bool,
    /// The most likely first tokens are returned.
    pub first_token: bool,
    /// The field that constrains text: `structured_outputs` or `response_format`.
    pub constrains: Option<String>,
    /// How reasoning is switched: `template` or `effort`.
    pub thinks: Option<String>,
    pub tokenize: bool,
    /// The part for audio: `input_audio` or `audio_url`.
    pub hears: Option<String>,
    /// `yes`, or `k of 8 differ`.
    pub repeatable: Option<String>,
    pub truncates_silently: bool,
    pub seen: Map<String, Value>,
}

impl Capabilities {
    /// Whether log-probabilities of given tokens are available.
    pub fn reads_tokens(&self) -> bool {
        self.echo.is_some() || self.native || self.forced
    }

    pub fn switch(&self) -> Switch {
        match self.thinks.as_deref() {
            Some("template") => Switch::Template,
            Some("effort") => Switch::Effort,
            _ => Switch::None,
        }
    }

    pub fn audio_part(&self) -> Option<AudioPart> {
        match self.hears.as_deref() {
            Some("input_audio") => Some(AudioPart::InputAudio),
            Some("audio_url") => Some(AudioPart::AudioUrl),
            _ => None,
        }
    }
}

/// A server that is probed.
pub struct Probe<'a> {
    pub client: &'a Client,
    pub engine: &'a Engine,
    until: Instant,
    found: Capabilities,
}

impl<'a> Probe<'a> {
    pub fn new(client: &'a Client, engine: &'a Engine) -> Self {
        Probe {
            client,
            engine,
            until: Instant::now() + BUDGET,
            found: Capabilities::default(),
        }
    }

    /// Runs all probes; with `hear` those for audio, too.
    pub fn run(mut self, hear: bool) -> Capabilities {
        self.tokens();
        self.echo();
        self.native();
        self.forced();
        self.first_token();
        // The probes for scoring options always run; the others have a budget of their own, in case the engine is
        // slow.
        self.until = self.until.max(Instant::now() + BUDGET);
        self.continues();
        self.constrained();
        self.thinking();
        if hear {
            self.audio();
        }
        self.repeatable();
        self.window();
        self.found
    }

    /// The reply to a request, if there is time for it.
    fn ask(&mut self, path: &str, root: bool, body: &Value) -> Option<Value> {
        if Instant::now() >= self.until {
            self.found
                .seen
                .insert("time".to_owned(), "the probes were cut short after 10 s".into());
            return None;
        }
        let answer = self.client.probe(0, path, root, body, self.until + LAST).ok()?;
        (answer.0 == 200 && answer.1.get("error").is_none_or(Value::is_null)).then_some(answer.1)
    }

    fn saw(&mut self, what: &str, seen: impl Into<Value>) {
        self.found.seen.insert(what.to_owned(), seen.into());
    }

    fn chat(&mut self, messages: Value, more: Value) -> Option<Value> {
        let mut body =
            json!({ "model": self.engine.model, "messages": messages, "max_tokens": 8, "temperature": 0, "seed": 7 });
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        self.ask("/chat/completions", false, &body)
    }

    fn cut(&mut self, text: &str) -> Option<Vec<u32>> {
        let (path, body) = tokenize(self.engine.kind, &self.engine.model, text, false);
        self.ask(path, true, &body)
            .and_then(|said| ids(&said))
            .filter(|ids| !ids.is_empty())
    }

    fn tokens(&mut self) {
        let Some(cut) = self.cut(SAMPLE) else { return };
        let (path, body) = detokenize(self.engine.kind, &self.engine.model, &cut);
        let back = self.ask(path, true, &body);
        let text = back.as_ref().and_then(text_of);
        self.found.tokenize = text.is_none_or(|text| text.trim_start() == SAMPLE);
        let words = if text.is_some() {
            "tokens, and back to the same text"
        } else {
            "tokens"
        };
        let seen = if self.found.tokenize {
            words
        } else {
            "tokens that become another text"
        };
        self.saw("tokens", seen);
    }

    /// Two prompts of four tokens that differ in the last: only the last value may change. If ids are refused, texts
    /// are tried for the report; they are not used for scoring, because it is unknown where an option begins in a
    /// text.
    fn echo(&mut self) {
        let one = self.cut("The sky is blue").filter(|ids| ids.len() > 2);
        let one = one.unwrap_or_else(|| vec![10, 11, 12, 13]);
        let mut two = one.clone();
        two[one.len() - 1] = one[0];
        let count = one.len();
        for max_tokens in [0, 1] {
            let seen = self.echoed(&json!(one), &json!(two), |_| Some(count), max_tokens);
            if seen == Some(Echo::InStep) {
                self.found.echo = Some(max_tokens);
                let words = format!("log-probabilities of the prompt, with max_tokens {max_tokens}");
                return self.saw("echo", words);
            }
            if seen == Some(Echo::OutOfStep) {
                return self.saw("echo", OUT_OF_STEP);
            }
        }
        let (one, two) = ("The sky is blue", "The sky is green");
        let spelt = |columns: &Value| {
            let tokens = columns["tokens"].as_array()?;
            let mut length = 0;
            let ends = tokens.iter().position(|token| {
                length += token.as_str().unwrap_or_default().len();
                length >= one.len()
            });
            ends.map(|at| at + 1)
        };
        match self.echoed(&json!(one), &json!(two), spelt, 1) {
            Some(Echo::InStep) => self.saw("echo", "log-probabilities of texts, and not of token ids: not used"),
            Some(Echo::OutOfStep) => self.saw("echo", OUT_OF_STEP),
            None => self.saw("echo", "no log-probabilities of the prompt"),
        }
    }

    /// How two prompts that differ only in the last token are echoed; `count` extracts the number of tokens in the
    /// prompt.
    fn echoed(
        &mut self,
        one: &Value,
        two: &Value,
        count: impl Fn(&Value) -> Option<usize>,
        max_tokens: u32,
    ) -> Option<Echo> {
        let mut columns = |prompt: &Value| -> Option<Value> {
            let mut body = echo_body(&self.engine.model, &[], max_tokens);
            body["prompt"] = prompt.clone();
            let reply = self.ask("/completions", false, &body)?;
            let columns = &reply["choices"][0]["logprobs"];
            columns["token_logprobs"].is_array().then(|| columns.clone())
        };
        let (first, second) = (columns(one)?, columns(two)?);
        let last = count(&first)?.checked_sub(1).filter(|last| *last > 1)?;
        let values = |columns: &Value| columns["token_logprobs"].as_array().cloned().unwrap_or_default();
        // Both prompts have the same most likely last token: a server that shows different ones is out of step by one.
        let best = |columns: &Value| {
            let top = columns["top_logprobs"][last].as_object()?;
            top.values().filter_map(Value::as_f64).reduce(f64::max)
        };
        let near = |a: f64, b: f64| (a - b).abs() < 0.05;
        if let (Some(a), Some(b)) = (best(&first), best(&second))
            && !near(a, b)
        {
            return Some(Echo::OutOfStep);
        }
        let (first, second) = (values(&first), values(&second));
        let fits = |values: &[Value]| {
            let long_enough = values.len() > last && values.len() <= last + 1 + max_tokens as usize;
            let known = values.iter().take(last + 1).skip(1);
            long_enough && values[0].is_null() && known.clone().all(|value| value.as_f64().is_some_and(|it| it <= 1e-4))
        };
        let same = |at: usize| near(first[at].as_f64().unwrap_or(0.0), second[at].as_f64().unwrap_or(0.0));
        (fits(&first) && fits(&second) && (1..last).all(same) && first[last] != second[last]).then_some(Echo::InStep)
    }

    fn native(&mut self) {
        if self.engine.kind != Kind::Sglang {
            return;
        }
        let ids = self.cut("The sky is blue").unwrap_or_else(|| vec![10, 11, 12, 13]);
        let body = crate::choices::native_body(&ids, 1);
        let reply = self.ask("/generate", true, &body);
        let entries = reply
            .as_ref()
            .and_then(|reply| reply["meta_info"]["input_token_logprobs"].as_array());
        let last = entries.and_then(|entries| entries.last());
        self.found.native =
            last.is_some_and(|last| last[0].is_number() && last[1].as_u64() == ids.last().map(|id| u64::from(*id)));
        self.saw("native", self.found.native);
    }

    /// The second most likely token, when forced, must have the same log-probability as without the bias.
    fn forced(&mut self) {
        let text = "The sky is";
        let Some(ids) = self
            .cut(text)
            .filter(|_| !self.found.native && self.found.echo.is_none())
        else {
            return;
        };
        let token = |probe: &mut Self, forced: Option<u32>| {
            let before = [Before::Ids(&ids), Before::Text(text)];
            let request = |before| forced::request(probe.engine.kind, &probe.engine.model, before, forced);
            let (path, root, body) = before.into_iter().find_map(request)?;
            forced::read(&probe.ask(path, root, &body)?).ok()
        };
        let Some(free) = token(self, None) else { return };
        let Some((words, id, logprob)) = free.top.iter().find(|(.., logprob)| *logprob < free.logprob).cloned() else {
            return;
        };
        let id = id.or_else(|| self.only(&words));
        let bound = token(self, id);
        self.found.forced = bound.is_some_and(|bound| (bound.logprob - logprob).abs() < 1e-3 && !bound.greedy);
        self.saw(
            "forced",
            match self.found.forced {
                true => "a token that is forced comes with the log-probability that it has by itself",
                false => "the log-probability of a token that is forced is not its own",
            },
        );
    }

    /// The id of a text that should be one token.
    fn only(&mut self, text: &str) -> Option<u32> {
        let ids = self.cut(text)?;
        // A server that adds a first token to every text does so here, too.
        ids.last().copied().filter(|_| ids.len() <= 2)
    }

    /// The same conversation with two different last messages: the last tokens must spell the words, and all others
    /// must be equal.
    fn continues(&mut self) {
        let more = || json!({ "continue_final_message": true, "add_generation_prompt": false, "prompt_logprobs": 1, "return_token_ids": true, "max_tokens": 1 });
        let talk = |word: &str| json!([{ "role": "user", "content": "What colour is the sky?" }, { "role": "assistant", "content": word }]);
        let (Some(blue), Some(green)) = (self.chat(talk(" blue"), more()), self.chat(talk(" green"), more())) else {
            return;
        };
        let (Ok(blue), Ok(green)) = (continued(&blue), continued(&green)) else {
            return;
        };
        let ends = |found: &(Vec<Value>, Vec<u64>), word: &str| {
            let texts = found
                .0
                .iter()
                .zip(&found.1)
                .map(|(value, id)| value[id.to_string()]["decoded_token"].as_str().unwrap_or_default());
            texts.collect::<String>().ends_with(word)
        };
        let shared = blue.1.iter().zip(&green.1).take_while(|(a, b)| a == b).count();
        self.found.continues = ends(&blue, " blue") && ends(&green, " green") && shared > 0 && shared < blue.1.len();
        let seen = if self.found.continues {
            "log-probabilities of a begun answer"
        } else {
            "a begun answer loses its blank or its place"
        };
        self.saw("continue", seen);
    }

    fn first_token(&mut self) {
        let reply = self.chat(
            json!([{ "role": "user", "content": "Say A or B." }]),
            json!({ "max_tokens": 1, "logprobs": true, "top_logprobs": 5 }),
        );
        let scored = reply
            .map(|reply| crate::reply::scored(&reply["choices"][0]))
            .unwrap_or_default();
        self.found.first_token = scored.first().is_some_and(|first| first.top.len() > 1);
        self.saw("first-token", self.found.first_token);
    }

    fn constrained(&mut self) {
        let talk = || json!([{ "role": "user", "content": "Say hello." }]);
        let words = ["qzzt", "vrrk"];
        let says = |reply: Option<Value>, expected: &dyn Fn(&str) -> bool| {
            reply.is_some_and(|reply| reply["choices"][0]["message"]["content"].as_str().is_some_and(expected))
        };
        let one_of = |text: &str| words.contains(&text.trim().trim_matches('"'));
        let reply = self.chat(talk(), json!({ "structured_outputs": { "choice": words } }));
        if self.engine.kind == Kind::Vllm && says(reply, &one_of) {
            self.found.constrains = Some("structured_outputs".to_owned());
        } else {
            let schema = json!({ "type": "object", "required": ["word"], "additionalProperties": false, "properties": { "word": { "type": "string", "enum": words } } });
            let format = json!({ "response_format": { "type": "json_schema", "json_schema": { "name": "word", "strict": true, "schema": schema } }, "max_tokens": 32 });
            let reply = self.chat(talk(), format);
            let fits = |text: &str| {
                serde_json::from_str::<Value>(text)
                    .is_ok_and(|value| value["word"].as_str().is_some_and(|word| words.contains(&word)))
            };
            if says(reply, &fits) {
                self.found.constrains = Some("response_format".to_owned());
            }
        }
        self.saw(
            "constrained",
            self.found.constrains.clone().map_or(Value::Bool(false), Value::from),
        );
    }

    /// On and off must differ in the tokens read, or in whether there is reasoning.
    fn thinking(&mut self) {
        let talk = || json!([{ "role": "user", "content": "What is 2 + 2?" }]);
        let mark = |reply: &Value| {
            let message = &reply["choices"][0]["message"];
            let thought = ["reasoning", "reasoning_content"]
                .iter()
                .any(|name| message[name].as_str().is_some_and(|text| !text.is_empty()));
            let opened = message["content"]
                .as_str()
                .is_some_and(|text| text.trim_start().starts_with("<think>"));
            (reply["usage"]["prompt_tokens"].as_u64(), thought || opened)
        };
        for (name, on, off) in [
            (
                "template",
                json!({ "chat_template_kwargs": { "enable_thinking": true } }),
                json!({ "chat_template_kwargs": { "enable_thinking": false } }),
            ),
            (
                "effort",
                json!({ "reasoning_effort": "medium" }),
                json!({ "reasoning_effort": "none" }),
            ),
        ] {
            let (Some(on), Some(off)) = (self.chat(talk(), on), self.chat(talk(), off)) else {
                continue;
            };
            if mark(&on) != mark(&off) {
                self.found.thinks = Some(name.to_owned());
                break;
            }
        }
        self.saw(
            "thinking",
            self.found.thinks.clone().map_or(Value::Bool(false), Value::from),
        );
    }

    /// Tones of one and of three seconds: the number of tokens read must grow.
    fn audio(&mut self) {
        let tone = |seconds: u32| {
            let sample = |at: u32| (at as f32 * 440.0 * std::f32::consts::TAU / 16_000.0).sin() * 0.3;
            encode_clip(
                &Clip::new(16_000, (0..seconds * 16_000).map(sample).collect()),
                AudioFormat::Wav16,
            )
        };
        let parts = [
            ("input_audio", AudioPart::InputAudio),
            ("audio_url", AudioPart::AudioUrl),
        ];
        let mut answered = false;
        for (name, _) in parts {
            let talk = |data: &str| {
                let part = match name {
                    "input_audio" => json!({ "type": name, "input_audio": { "data": data, "format": "wav" } }),
                    _ => json!({ "type": name, "audio_url": { "url": format!("data:audio/wav;base64,{data}") } }),
                };
                json!([{ "role": "user", "content": [part, { "type": "text", "text": "What is it?" }] }])
            };
            let (Some(short), Some(long)) = (
                self.chat(talk(&tone(1)), json!({ "max_tokens": 1 })),
                self.chat(talk(&tone(3)), json!({ "max_tokens": 1 })),
            ) else {
                continue;
            };
            answered = true;
            let read = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64().unwrap_or(0);
            if read(&long) > read(&short) {
                self.found.hears = Some(name.to_owned());
                self.saw(
                    "audio",
                    format!(
                        "`{name}`: {} tokens of one second, {} of three",
                        read(&short),
                        read(&long)
                    ),
                );
                return;
            }
        }
        self.saw(
            "audio",
            if answered {
                "taken and dropped: as many tokens of one second as of three"
            } else {
                "refused"
            },
        );
    }

    /// One greedy answer alone, then eight concurrently.
    fn repeatable(&mut self) {
        let body = json!({ "model": self.engine.model, "messages": [{ "role": "user", "content": "Count from one to ten in words." }], "max_tokens": 24, "temperature": 0, "seed": 7 });
        let Some(alone) = self.ask("/chat/completions", false, &body) else {
            return;
        };
        let text = |reply: &Value| reply["choices"][0]["message"]["content"].clone();
        let (client, until) = (self.client, self.until + BUDGET);
        let differ = std::thread::scope(|scope| {
            let ask = || {
                client
                    .probe(0, "/chat/completions", false, &body, until)
                    .ok()
                    .filter(|(status, _)| *status == 200)
            };
            let together: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            let replies: Vec<_> = together
                .into_iter()
                .filter_map(|one| one.join().ok().flatten())
                .collect();
            (replies.len() == 8).then(|| replies.iter().filter(|(_, reply)| text(reply) != text(&alone)).count())
        });
        self.found.repeatable = differ.map(|count| {
            if count == 0 {
                "yes".to_owned()
            } else {
                format!("{count} of 8 differ")
            }
        });
    }

    /// A prompt of one token more than the window must be an error.
    fn window(&mut self) {
        let Some(window) = self.engine.context.filter(|window| *window <= 40_000) else {
            return;
        };
        let body = json!({ "model": self.engine.model, "prompt": " a".repeat(window as usize + 1), "max_tokens": 1, "temperature": 0 });
        if let Some(reply) = self.ask("/completions", false, &body) {
            let read = reply["usage"]["prompt_tokens"].as_u64();
            self.found.truncates_silently = read.is_none_or(|read| read <= u64::from(window));
            self.saw(
                "window",
                format!(
                    "a prompt of {} words was answered, of which {} tokens were read",
                    window + 1,
                    read.unwrap_or(0)
                ),
            );
        }
    }
}
