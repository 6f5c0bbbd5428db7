//! Replays over HTTP what a reference recorded of a checkpoint: the greedy tokens, and the log-probabilities of the
//! recorded prompts.
//!
//! The server's arithmetic has no known bound, so differences are measured and reported. Tokens must be equal wherever
//! the recording's own margin is wider than the measured difference.

use crate::chat::{self, AudioPart, Manner};
use crate::choices::echo_body;
use crate::engine::Kind;
use crate::model::Inner;
use crate::reply::scored;
use crate::tokens::{Cutter, ids};
use plugin_api::{Code, Context, Error, Message, Prompt, Result, Sampling};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Recordings have this many greedy tokens.
const STEPS: u32 = 24;
const EACH: Duration = Duration::from_secs(300);
/// A larger difference of log-probabilities means another model, whatever the server's precision.
const ANOTHER_MODEL: f64 = 0.5;

/// Answers `{"golden": FOLDER}` with findings in the form that all models use.
pub fn trace(inner: &Inner, request: &Value) -> Result<Value> {
    let Some(folder) = request["golden"].as_str() else {
        return Err(Error::unsupported(
            "the only trace known here is `{\"golden\": FOLDER}`",
        ));
    };
    let recording = Recording::open(Path::new(folder))?;
    let mut findings = Vec::new();
    for case in &recording.cases {
        let name = case["name"].as_str().unwrap_or_default();
        if recording.has(name, "pixel_values") {
            continue;
        }
        let rows = recording.prompts(name)?;
        for (row, ids) in rows.iter().enumerate() {
            let label = if rows.len() == 1 {
                name.to_owned()
            } else {
                format!("{name}[{row}]")
            };
            let replay = Replay {
                inner,
                recording: &recording,
                case,
                name,
                row,
                ids,
            };
            findings.extend(replay.all()?.into_iter().map(|mut finding| {
                finding["case"] = label.clone().into();
                finding
            }));
        }
    }
    let ok = findings.iter().all(|finding| finding["ok"] == true);
    Ok(json!({ "ok": ok, "cases": findings }))
}

struct Replay<'a> {
    inner: &'a Inner,
    recording: &'a Recording,
    case: &'a Value,
    name: &'a str,
    row: usize,
    ids: &'a [u32],
}

impl Replay<'_> {
    fn all(&self) -> Result<Vec<Value>> {
        let mut findings = Vec::new();
        let mut measured = 0.0_f64;
        findings.extend(self.prompt());
        let mut difference = |what: &str, difference: f64| {
            measured = measured.max(difference);
            json!({ "what": what, "max_abs_diff": difference, "ok": difference < ANOTHER_MODEL })
        };
        let written = self.written()?;
        match self.logprobs()? {
            Some(largest) => findings.push(difference("prompt_logprobs", largest)),
            None => {
                let first = written.as_ref().and_then(|written| written.first.as_ref());
                if let Some(largest) = first.map(|first| self.first(first)).transpose()?.flatten() {
                    findings.push(difference("first_logprob", largest));
                }
            }
        }
        findings.extend(self.greedy(written, measured)?);
        Ok(findings)
    }

    /// The distance of the first token's log-probability from the recorded one, if it is the recorded token.
    fn first(&self, (text, logprob): &(String, f64)) -> Result<Option<f64>> {
        let (Some((rows, width)), Cutter::Local(chat)) =
            (self.recording.logits(self.name, self.row)?, &self.inner.cutter)
        else {
            return Ok(None);
        };
        let Some(greedy) = self.recording.row(self.name, "greedy", self.row)? else {
            return Ok(None);
        };
        let own = chat.tokenizer().decode(&greedy[..greedy.len().min(1)]);
        let own = own.map_err(text::Error::into_plugin_error)?;
        let row = rows.len().checked_sub(width).map(|at| &rows[at..]);
        Ok(match (row, greedy.first()) {
            (Some(row), Some(id)) if own.trim() == text.trim() => Some((logprob - log_softmax(row, *id)).abs()),
            _ => None,
        })
    }

    fn ask(&self, path: &str, root: bool, body: &Value) -> Result<Option<Value>> {
        match self.inner.client.probe(0, path, root, body, Instant::now() + EACH) {
            Ok((200, value)) if value.get("error").is_none_or(Value::is_null) => Ok(Some(value)),
            Ok(_) => Ok(None),
            Err(lost) => Err(Error::new(Code::SERVICE, "the server can't be reached").cause(lost.what)),
        }
    }

    /// Whether the server's tokens of the recorded conversation are the recorded ones.
    fn prompt(&self) -> Option<Value> {
        let known = self.inner.found.tokenize && matches!(self.inner.engine.kind, Kind::Vllm | Kind::Sglang);
        let messages = self
            .case
            .get("messages")
            .filter(|messages| messages[0]["content"].is_string() && known)?;
        let body = json!({ "model": self.inner.engine.model, "messages": messages, "add_generation_prompt": true });
        let cut = ids(&self.ask("/tokenize", true, &body).ok()??)?;
        let equal = cut == self.ids;
        Some(json!({ "what": "prompt", "tokens_equal": equal, "ok": equal }))
    }

    /// The largest difference of log-probabilities in the prompt, if the server gives them.
    fn logprobs(&self) -> Result<Option<f64>> {
        let Some((rows, width)) = self.recording.logits(self.name, self.row)? else {
            return Ok(None);
        };
        let Some(given) = self.given()? else {
            return Ok(None);
        };
        let mut largest = 0.0_f64;
        for at in 1..self.ids.len() {
            let row = &rows[(at - 1) * width..at * width];
            if let Some(given) = given[at - 1] {
                largest = largest.max((given - log_softmax(row, self.ids[at])).abs());
            }
        }
        Ok(Some(largest))
    }

    /// The log-probability of each token of the prompt but the first, if the server gives them.
    fn given(&self) -> Result<Option<Vec<Option<f64>>>> {
        let (model, found) = (&self.inner.engine.model, &self.inner.found);
        let clips = self.case["audio"].as_array().is_some_and(|names| !names.is_empty());
        if clips || self.ids.len() < 2 {
            return Ok(None);
        }
        if let Some(least) = found.echo {
            let Some(reply) = self.ask("/completions", false, &echo_body(model, self.ids, least))? else {
                return Ok(None);
            };
            let given = reply["choices"][0]["logprobs"]["token_logprobs"].as_array();
            let given: Vec<Option<f64>> = given
                .into_iter()
                .flatten()
                .map(|value| Some(value.as_f64().unwrap_or(f64::NAN)))
                .collect();
            let what = format!("{} log-probabilities of {} tokens came", given.len(), self.ids.len());
            let own = given.get(1..self.ids.len()).map(<[_]>::to_vec);
            return own.map(Some).ok_or_else(|| Error::new(Code::SERVICE, what));
        }
        if !found.forced {
            return Ok(None);
        }
        let mut ask = |path: &str, root: bool, body: Value| {
            let refused = || Error::new(Code::SERVICE, format!("`{path}` refused a recorded prompt"));
            Ok(self.ask(path, root, &body)?.ok_or_else(refused)?)
        };
        let mut given = Vec::with_capacity(self.ids.len());
        for end in 2..=self.ids.len() {
            match self.inner.forced(model, &self.ids[..end], 1, &mut ask) {
                Ok(tokens) => given.push(tokens.first().map(|(logprob, _)| *logprob)),
                // A server without token ids has none of these; the greedy answer is still compared.
                Err(stop) if stop.error.code == Code::UNSUPPORTED => return Ok(None),
                // A forced end token is not shown.
                Err(stop) if stop.error.code == Code::SERVICE => given.push(None),
                Err(stop) => return Err(stop.error),
            }
        }
        Ok(given.iter().any(Option::is_some).then_some(given))
    }

    /// Whether the server generates the recorded tokens, up to where the recording would have stopped.
    fn greedy(&self, written: Option<Written>, measured: f64) -> Result<Option<Value>> {
        let Some(mut expected) = self.recording.row(self.name, "greedy", self.row)? else {
            return Ok(None);
        };
        if let Some(stop) = self.case["stops_after"].as_u64() {
            expected.truncate(stop as usize);
        }
        let Cutter::Local(chat) = &self.inner.cutter else {
            return Ok(None);
        };
        let expected = chat
            .tokenizer()
            .decode(&expected)
            .map_err(text::Error::into_plugin_error)?;
        let Some(Written { way, text: written, .. }) = written else {
            return Ok(Some(
                json!({ "what": "greedy", "tokens_equal": null, "ok": false, "error": "the server takes neither tokens nor this conversation" }),
            ));
        };
        // A server that stops at a token generates less, and one with a larger limit more.
        let shared = written.trim_end().len().min(expected.trim_end().len());
        let equal = shared > 0 && written.as_bytes()[..shared] == expected.as_bytes()[..shared];
        let narrow = self.case["smallest_margin"]
            .as_f64()
            .is_some_and(|margin| margin <= 2.0 * measured);
        Ok(Some(
            json!({ "what": format!("greedy by {way}"), "tokens_equal": equal, "ok": equal || narrow }),
        ))
    }

    /// The server's continuation: of the recorded ids, else of their text, else of the conversation.
    fn written(&self) -> Result<Option<Written>> {
        let sampling = Sampling {
            seed: Some(0),
            top_logprobs: self.inner.found.first_token.then_some(1),
            ..Sampling::greedy(STEPS)
        };
        let manner = Manner {
            stream: false,
            ..self.inner.manner.clone()
        };
        let model = &self.inner.engine.model;
        let written = |way: &'static str, reply: Option<Value>| {
            let choice = reply?["choices"][0].take();
            let text = choice["text"].as_str().or(choice["message"]["content"].as_str())?;
            Some(Written {
                way,
                text: text.to_owned(),
                first: scored(&choice).first().map(|token| (token.text.clone(), token.logprob)),
            })
        };
        let clips = self.case["audio"].as_array().is_some_and(|names| !names.is_empty());
        if !clips {
            let body = chat::completion("", Some(self.ids), &sampling, model, &manner)?.json;
            if let Some(found) = written("token ids", self.ask("/completions", false, &body)?) {
                return Ok(Some(found));
            }
            if let Some(prompt) = self.case["prompt"].as_str() {
                let body = chat::completion(prompt, None, &sampling, model, &manner)?.json;
                if let Some(found) = written("text", self.ask("/completions", false, &body)?) {
                    return Ok(Some(found));
                }
            }
        }
        let Some(messages) = self.messages()? else {
            return Ok(None);
        };
        let mut body = chat::chat(&Prompt::new([Message::user("")]), &sampling, model, &manner)?.json;
        body["messages"] = messages;
        Ok(written("conversation", self.ask("/chat/completions", false, &body)?))
    }

    /// The recorded conversation, with the recorded files for its clips.
    fn messages(&self) -> Result<Option<Value>> {
        let talk = match &self.case["messages"] {
            Value::Array(all) if all.first().is_some_and(Value::is_array) => all.get(self.row).cloned(),
            talk @ Value::Array(_) => Some(talk.clone()),
            _ => None,
        };
        let Some(mut talk) = talk else { return Ok(None) };
        let mut names = self.case["audio"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        for message in talk.as_array_mut().into_iter().flatten() {
            for part in message["content"]
                .as_array_mut()
                .into_iter()
                .flatten()
                .filter(|part| part["type"] == "audio")
            {
                let name = names
                    .next()
                    .ok_or_else(|| self.recording.malformed("a case hears more clips than it names"))?;
                let data = self.recording.file(name)?;
                *part = match self.inner.manner.part {
                    AudioPart::InputAudio => {
                        json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } })
                    }
                    AudioPart::AudioUrl => {
                        json!({ "type": "audio_url", "audio_url": { "url": format!("data:audio/wav;base64,{data}") } })
                    }
                };
            }
        }
        Ok(Some(talk))
    }
}

/// A generated text, what it continues, and its first token with the log-probability.
struct Written {
    way: &'static str,
    text: String,
    first: Option<(String, f64)>,
}

/// The log-probability of a token, given all logits.
fn log_softmax(row: &[f32], id: u32) -> f64 {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
    row.get(id as usize)
        .map_or(f64::NAN, |logit| f64::from(logit - most) - sum.ln())
}

/// A `golden` folder: `cases.json`, and tensors named `case.key`.
struct Recording {
    folder: PathBuf,
    cases: Vec<Value>,
    bytes: Vec<u8>,
}

impl Recording {
    fn open(folder: &Path) -> Result<Recording> {
        let read = |name: &str| {
            std::fs::read(folder.join(name)).with_context(|| format!("cannot read `{}`", folder.join(name).display()))
        };
        let cases: Value = serde_json::from_slice(&read("cases.json")?)
            .with_context(|| format!("cannot read `{}`", folder.join("cases.json").display()))?;
        let recording = Recording {
            folder: folder.to_owned(),
            cases: cases["cases"].as_array().cloned().unwrap_or_default(),
            bytes: read("golden.safetensors")?,
        };
        recording.tensors()?;
        Ok(recording)
    }

    fn tensors(&self) -> Result<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map_err(|why| self.malformed(&why.to_string()))
    }

    fn malformed(&self, why: &str) -> Error {
        Error::new(
            Code::DATA,
            format!("the recording in `{}` is malformed", self.folder.display()),
        )
        .cause(why.to_owned())
    }

    fn has(&self, case: &str, key: &str) -> bool {
        self.tensors()
            .is_ok_and(|tensors| tensors.tensor(&format!("{case}.{key}")).is_ok())
    }

    /// A file beside the recording, in base64.
    fn file(&self, name: &str) -> Result<String> {
        if Path::new(name).file_name() != Some(name.as_ref()) {
            return Err(self.malformed(&format!("`audio` names `{name}`, which is outside of the folder")));
        }
        let bytes = std::fs::read(self.folder.join(name))
            .with_context(|| format!("cannot read `{}`", self.folder.join(name).display()))?;
        Ok(remote::base64(&bytes))
    }

    /// A row of whole numbers of a case.
    fn row(&self, case: &str, key: &str, row: usize) -> Result<Option<Vec<u32>>> {
        let tensors = self.tensors()?;
        let Ok(tensor) = tensors.tensor(&format!("{case}.{key}")) else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::I64 {
            return Err(self.malformed(&format!("`{case}.{key}` holds no whole numbers")));
        }
        let numbers: Vec<u32> = tensor
            .data()
            .chunks_exact(8)
            .map(|bytes| u32::try_from(i64::from_le_bytes(bytes.try_into().unwrap_or_default())).unwrap_or(u32::MAX))
            .collect();
        let width = tensor.shape().last().copied().unwrap_or(0);
        Ok(numbers.chunks(width.max(1)).nth(row).map(<[u32]>::to_vec))
    }

    /// The tokens of each prompt of a case, without padding.
    fn prompts(&self, case: &str) -> Result<Vec<Vec<u32>>> {
        let mut rows = Vec::new();
        while let Some(ids) = self.row(case, "input_ids", rows.len())? {
            let kept = match self.row(case, "attention_mask", rows.len())? {
                Some(mask) => ids
                    .iter()
                    .zip(mask)
                    .filter(|(_, kept)| *kept != 0)
                    .map(|(id, _)| *id)
                    .collect(),
                None => ids,
            };
            rows.push(kept);
        }
        Ok(rows)
    }

    /// The logits of one prompt without padding, and the size of the vocabulary.
    fn logits(&self, case: &str, row: usize) -> Result<Option<(Vec<f32>, usize)>> {
        let tensors = self.tensors()?;
        let Ok(tensor) = tensors.tensor(&format!("{case}.logits")) else {
            return Ok(None);
        };
        let [_, length, width] = tensor.shape() else {
            return Ok(None);
        };
        if tensor.dtype() != Dtype::F32 {
            return Ok(None);
        }
        let mask = self
            .row(case, "attention_mask", row)?
            .unwrap_or_else(|| vec![1; *length]);
        let place = row * length * width * 4;
        let one = tensor
            .data()
            .get(place..place + length * width * 4)
            .ok_or_else(|| self.malformed("a tensor is too short"))?;
        let kept = one
            .chunks_exact(width * 4)
            .zip(mask)
            .filter(|(_, kept)| *kept != 0)
            .flat_map(|(bytes, _)| bytes);
        let bytes: Vec<u8> = kept.copied().collect();
        let numbers = bytes
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap_or_default()));
        Ok(Some((numbers.collect(), *width)))
    }
}
