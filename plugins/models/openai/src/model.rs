//! One served model: makes calls of prompts, and replies of their answers.

use crate::chat::{self, Manner};
use crate::choices::Way;
use crate::engine::{Engine, Kind};
use crate::probe::Capabilities;
use crate::reply::{self, Reading};
use crate::tokens::{Cutter, Server};
use plugin_api::{Code, Error, LoraUse, ModelCard, Prompt, PromptTokens, Reply, Result, Sampling, Want};
use remote::{Answer, Answerer, Client, Question, Stop, Watch};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The name of a LoRA in `host` and at the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    pub name: String,
    pub served: String,
}

/// All that answering needs.
pub struct Inner {
    pub client: Client,
    pub engine: Engine,
    pub found: Capabilities,
    pub manner: Manner,
    pub cutter: Cutter,
    pub ways: Vec<Way>,
    pub loras: Vec<Lora>,
    pub card: ModelCard,
    stream: bool,
    pub(crate) twice: AtomicU32,
    shown: AtomicU32,
    fingerprint: Mutex<Option<String>>,
}

pub(crate) type Outcome<T> = std::result::Result<T, Stop>;

const CHAT: &str = "/chat/completions";
/// The server is asked to render this many conversations, if that takes a separate request.
const SHOWN: u32 = 20;

impl Inner {
    #[allow(clippy::too_many_arguments)] // the results of loading, passed once
    pub fn new(
        client: Client,
        engine: Engine,
        found: Capabilities,
        manner: Manner,
        cutter: Cutter,
        ways: Vec<Way>,
        loras: Vec<Lora>,
        card: ModelCard,
        stream: bool,
    ) -> Inner {
        Inner {
            client,
            engine,
            found,
            manner,
            cutter,
            ways,
            loras,
            card,
            stream,
            twice: AtomicU32::new(0),
            shown: AtomicU32::new(0),
            fingerprint: Mutex::default(),
        }
    }

    /// A prompt's tokens, by the model's own files.
    pub fn tokens(&self, prompt: &Prompt) -> Result<PromptTokens> {
        match &self.cutter {
            Cutter::Local(chat) => chat.encode(prompt),
            Cutter::Server => Err(Error::unsupported(
                "the tokens of a prompt are not known here; give `tokenizer`",
            )),
        }
    }

    /// The server's name for the base model or LoRA, and additional fields of the request.
    pub(crate) fn served(&self, used: &LoraUse) -> Result<(String, Value)> {
        let wanted: Vec<&Lora> = match used {
            LoraUse::Off => Vec::new(),
            LoraUse::AsLoaded => self.loras.iter().collect(),
            LoraUse::Only(names) => {
                let find = |name: &String| {
                    let known = self.loras.iter().find(|lora| lora.name == *name);
                    known.ok_or_else(|| {
                        Error::new(Code::SETTINGS, format!("no LoRA `{name}` is named in setting `lora`"))
                    })
                };
                names.iter().map(find).collect::<Result<_>>()?
            }
        };
        let base = self.engine.model.clone();
        if self.engine.kind == Kind::Llamacpp && !self.loras.is_empty() {
            let scale = |lora: &Lora| json!({ "id": lora.served.parse::<u32>().unwrap_or(0), "scale": if wanted.contains(&lora) { 1.0 } else { 0.0 } });
            return Ok((
                base,
                json!({ "lora": self.loras.iter().map(scale).collect::<Vec<_>>() }),
            ));
        }
        match &wanted[..] {
            [] => Ok((base, Value::Null)),
            [one] if self.engine.kind == Kind::Sglang => Ok((base, json!({ "lora_path": one.served }))),
            [one] => Ok((one.served.clone(), Value::Null)),
            _ => Err(Error::unsupported(
                "a server answers with one LoRA at a time; choose one with `--lora NAME`",
            )),
        }
    }

    pub(crate) fn question(
        &self,
        path: &str,
        root: bool,
        body: Value,
        model: &str,
        prompt: &Prompt,
        most_written: u32,
    ) -> Question {
        let letters: usize = prompt.messages.iter().map(|message| message.joined_text().len()).sum();
        let sound: f64 = prompt.clips.iter().map(plugin_api::Clip::seconds).sum();
        let first: String = prompt
            .messages
            .first()
            .map(|message| message.joined_text().chars().take(512).collect())
            .unwrap_or_default();
        Question {
            path: path.to_owned(),
            root,
            model: model.to_owned(),
            body,
            repeat: remote::repeat_of(prompt),
            beginning: first,
            most_read: (letters as u64).div_ceil(3) + (sound * 50.0).ceil() as u64 + 64,
            most_written: u64::from(most_written),
        }
    }

    /// Free text.
    fn text(&self, prompt: &Prompt, sampling: &Sampling, watch: &mut Watch<'_>) -> Outcome<Reply> {
        let (model, more) = self.served(&prompt.lora)?;
        let manner = Manner {
            stream: self.stream && sampling.top_logprobs.is_none(),
            ..self.manner.clone()
        };
        let (path, mut body, ids, rendered) = self.body(prompt, sampling, &model, &manner)?;
        if let (Some(body), Value::Object(more)) = (body.json.as_object_mut(), more) {
            body.extend(more);
        }
        let question = self.question(path, false, body.json, &model, prompt, body.max_tokens);
        let answer = self.stopping_at(&question, &sampling.stop, watch)?;
        let reading = Reading {
            stops: &sampling.stop,
            thinks: !prompt.plain,
        };
        let mut reply = reply::reply(&answer, &reading);
        // Hosted models answer with a dated name that begins with the requested one.
        if answer.reply["model"]
            .as_str()
            .is_some_and(|answered| !answered.starts_with(&model))
        {
            reply.flags.push("moved-model".to_owned());
        }
        if !body.ignored.is_empty() {
            reply.other.insert("sampling_ignored".to_owned(), json!(body.ignored));
        }
        if let Some(ids) = ids {
            let read = reply.usage.prompt_tokens as usize;
            if read > 0 && read < ids.len() {
                let error = Error::new(
                    Code::TOO_LONG,
                    format!("the engine read {read} of the {} tokens that were sent", ids.len()),
                );
                return Err(error.help("it cuts prompts at its window without a word").into());
            }
            reply
                .other
                .insert("prompt_ids_hash".to_owned(), hash_of(&json!(ids)).into());
        }
        if path == CHAT {
            self.show(prompt, &mut reply);
        }
        reply.rendered_sha256 = rendered.map(|text| remote::sha256_hex(text.as_bytes()));
        self.note(&question, &answer, prompt, &mut reply);
        Ok(reply)
    }

    /// The path and form of a prompt: messages, a text, or token ids if the tokenizer is known.
    #[allow(clippy::type_complexity)]
    pub(crate) fn body(
        &self,
        prompt: &Prompt,
        sampling: &Sampling,
        model: &str,
        manner: &Manner,
    ) -> Result<(&'static str, chat::Body, Option<Vec<u32>>, Option<String>)> {
        const COMPLETIONS: &str = "/completions";
        let local = match &self.cutter {
            Cutter::Local(chat) if prompt.clips.is_empty() && prompt.tools.is_empty() => Some(chat),
            _ => None,
        };
        if let Some(chat) = local {
            let prompt = Prompt {
                thinking: prompt.thinking.or(manner.thinking),
                ..prompt.clone()
            };
            let tokens = chat.encode(&prompt)?;
            let body = chat::completion(&tokens.text, Some(&tokens.ids), sampling, model, manner)?;
            return Ok((COMPLETIONS, body, Some(tokens.ids), Some(tokens.text)));
        }
        if prompt.plain {
            if !prompt.clips.is_empty() {
                return Err(Error::unsupported(
                    "a text without a chat template has no place for a clip at a server",
                ));
            }
            let text: String = prompt.messages.iter().map(plugin_api::Message::joined_text).collect();
            return Ok((
                COMPLETIONS,
                chat::completion(&text, None, sampling, model, manner)?,
                None,
                None,
            ));
        }
        Ok((CHAT, chat::chat(prompt, sampling, model, manner)?, None, None))
    }

    /// Sends a request, and closes the stream at a stop string that the server was not given.
    fn stopping_at(&self, question: &Question, stops: &[String], watch: &mut Watch<'_>) -> Outcome<Answer> {
        let refused = AtomicBool::new(false);
        let stop = || (watch.stop)() || refused.load(Ordering::Relaxed);
        let mut said = String::new();
        let token = &mut *watch.token;
        let mut show = |words: &str| {
            said.push_str(words);
            if !token(words) {
                refused.store(true, Ordering::Relaxed);
            }
            reply::first_stop(&said, stops).is_none()
        };
        let mut inner = Watch {
            deadline: watch.deadline,
            stop: &stop,
            token: &mut show,
        };
        self.client.ask(question, &mut inner)
    }

    /// Records the text and tokens that the server says the model read, for the first conversations.
    fn show(&self, prompt: &Prompt, reply: &mut Reply) {
        let asks = self.engine.kind == Kind::Llamacpp && self.found.tokenize && prompt.clips.is_empty();
        if !asks || self.shown.fetch_add(1, Ordering::Relaxed) >= SHOWN {
            return;
        }
        let server = Server {
            client: &self.client,
            model: &self.engine.model,
            manner: &self.manner,
        };
        // A failure here is ignored: records without this are valid, too.
        if let Ok((text, ids)) = server.read(prompt) {
            reply.other.insert("prompt_text".to_owned(), text.into());
            reply
                .other
                .insert("prompt_ids_hash".to_owned(), hash_of(&json!(ids)).into());
        }
    }

    /// Adds to the record what was sent, what the engine says it read, and the server's identity.
    pub(crate) fn note(&self, question: &Question, answer: &Answer, prompt: &Prompt, reply: &mut Reply) {
        reply
            .other
            .insert("sent_hash".to_owned(), hash_of(&question.body).into());
        if let Some(place) = answer.address {
            reply.other.insert(
                "address".to_owned(),
                self.client.pool().addresses()[place].host.clone().into(),
            );
        }
        if !prompt.clips.is_empty() {
            let sent = |clip: &plugin_api::Clip| {
                let bytes: Vec<u8> = clip.samples().iter().flat_map(|sample| sample.to_le_bytes()).collect();
                json!({ "sha256": remote::sha256_hex(&bytes), "rate": clip.rate, "seconds": clip.seconds() })
            };
            reply
                .other
                .insert("clips_sent".to_owned(), prompt.clips.iter().map(sent).collect());
            reply.usage.clip_seconds = prompt.clips.iter().map(plugin_api::Clip::seconds).sum();
            if self.found.hears.is_none() {
                reply.flags.push("audio-unproven".to_owned());
            }
        }
        if let Some(now) = answer.reply["fingerprint"].as_str() {
            let mut first = self
                .fingerprint
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if first.get_or_insert_with(|| now.to_owned()) != now {
                reply.flags.push("mixed".to_owned());
            }
        }
        let served = answer.reply["model"].as_str();
        if self.engine.kind == Kind::Vllm && served.is_some_and(|served| served != question.model) {
            reply.flags.push("engine-fault".to_owned());
        }
    }
}

fn hash_of(value: &Value) -> String {
    remote::sha256_hex(remote::canonical(value).as_bytes())
}

impl Answerer for Inner {
    fn answer(&self, prompt: &Prompt, watch: &mut Watch<'_>) -> Outcome<Reply> {
        match &prompt.want {
            Want::Text { sampling } => self.text(prompt, sampling, watch),
            Want::Choice { options } => self.choice(prompt, options, watch),
            _ => Err(Error::unsupported("this server can't do what this prompt wants").into()),
        }
    }

    fn allowed(&self) -> usize {
        self.client.pool().allowed()
    }
}
