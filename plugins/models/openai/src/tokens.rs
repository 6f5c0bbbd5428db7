//! Tokenizes prompts with the served model's own tokenizer, locally or at the server.
//!
//! The rule is that of all models here: context and option are tokenized together and split at the context's own
//! length; trailing blanks of the author's context belong to the option; an option that merges into the context is
//! tokenized alone.

use crate::chat::{Manner, messages};
use crate::engine::Kind;
use plugin_api::{Code, Error, Prompt, Result, Role};
use remote::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use text::{Chat, Choices};

const LONGEST: Duration = Duration::from_secs(30);

/// A text with characters that some tokenizers get wrong.
pub const SAMPLE: &str = "Größe naïve 東京 🙂 1,024 tokens\n\tend";

/// The tokenizer for a server's texts.
pub enum Cutter {
    /// The model's own files.
    Local(Box<Chat>),
    /// The server's `/tokenize`.
    Server,
}

impl Cutter {
    /// The tokens of a prompt and of each of its options.
    pub fn choices(
        &self,
        client: &Client,
        model: &str,
        manner: &Manner,
        prompt: &Prompt,
        options: &[String],
    ) -> Result<Choices> {
        match self {
            Cutter::Local(chat) => chat.encode_choices(prompt, options),
            Cutter::Server => {
                let server = Server { client, model, manner };
                let (text, open) = server.render(prompt)?;
                let kept = if open { text.trim_end().len() } else { text.len() };
                let (context, blanks) = text.split_at(kept);
                let ids = server.cut(context, prompt.plain)?;
                let mut cut = Vec::with_capacity(options.len());
                for option in options {
                    let option = format!("{blanks}{option}");
                    let mut whole = server.cut(&format!("{context}{option}"), prompt.plain)?;
                    let mut tokens = whole.split_off(ids.len().min(whole.len()));
                    if tokens.is_empty() {
                        tokens = server.cut(&option, false)?;
                    }
                    cut.push(tokens);
                }
                match ids.is_empty() {
                    true => Err(Error::unsupported(
                        "a server can't score what follows on nothing; give `tokenizer`",
                    )),
                    false => Ok(Choices {
                        context: ids,
                        options: cut,
                    }),
                }
            }
        }
    }
}

/// A server that tokenizes texts and joins tokens.
pub struct Server<'a> {
    pub client: &'a Client,
    pub model: &'a str,
    pub manner: &'a Manner,
}

impl Server<'_> {
    /// The text that the server tokenizes to exactly these tokens; an error if there is none.
    pub fn text_of(&self, ids: &[u32]) -> Result<String> {
        let (path, body) = detokenize(self.manner.kind, self.model, ids);
        let said = self.ask(path, &body)?;
        let text = text_of(&said).unwrap_or_default().to_owned();
        match self.cut(&text, true)? == ids {
            true => Ok(text),
            false => {
                let error = Error::unsupported("this server takes texts alone, and no text has exactly these tokens");
                Err(error.cause(format!("`{}` is cut elsewhere", text.escape_debug())))
            }
        }
    }

    /// A conversation as the server renders it, and its tokens.
    pub fn read(&self, prompt: &Prompt) -> Result<(String, Vec<u32>)> {
        let (text, _) = self.render(prompt)?;
        let ids = self.cut(&text, true)?;
        Ok((text, ids))
    }

    /// The text of a prompt, and whether the prompt's author wrote its end.
    fn render(&self, prompt: &Prompt) -> Result<(String, bool)> {
        if prompt.plain {
            return Ok((
                prompt.messages.iter().map(plugin_api::Message::joined_text).collect(),
                true,
            ));
        }
        let open = prompt.messages.last().is_some_and(|last| last.role == Role::Assistant);
        let messages = messages(prompt, self.manner)?;
        let text = match self.manner.kind {
            Kind::Llamacpp => self.ask("/apply-template", &json!({ "messages": messages }))?["prompt"].clone(),
            Kind::LlamaCppPython => {
                return Err(Error::unsupported(
                    "this server does not show a rendered conversation, so options after one are not scored by tokens",
                )
                .help("give `tokenizer`"));
            }
            _ => {
                let mut body = json!({ "model": self.model, "messages": messages, "add_generation_prompt": !open, "continue_final_message": open });
                if let Some(on) = prompt.thinking.or(self.manner.thinking) {
                    body["chat_template_kwargs"] = json!({ "enable_thinking": on });
                }
                let ids = self.ask("/tokenize", &body)?["tokens"].clone();
                let (path, body) = detokenize(self.manner.kind, self.model, &whole_numbers(&ids));
                text_of(&self.ask(path, &body)?).into()
            }
        };
        let text = text.as_str().map(str::to_owned);
        text.map(|text| (text, open))
            .ok_or_else(|| Error::new(Code::SERVICE, "the server shows no text of a rendered prompt"))
    }

    fn cut(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let (path, body) = tokenize(self.manner.kind, self.model, text, special);
        ids(&self.ask(path, &body)?).ok_or_else(|| Error::new(Code::SERVICE, "the server gives no tokens of a text"))
    }

    fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let mut last = None;
        for _ in 0..3 {
            match self.client.probe(0, path, true, body, Instant::now() + LONGEST) {
                Ok((200, value)) => return Ok(value),
                Ok((status, value)) => {
                    return Err(Error::new(Code::SERVICE, format!("`{path}` answered {status}"))
                        .cause(remote::said(&value.to_string())));
                }
                Err(lost) => last = Some(lost.what),
            }
        }
        Err(Error::new(Code::SERVICE, format!("`{path}` can't be reached")).cause(last.unwrap_or_default()))
    }
}

/// The path outside `/v1` and the body for a text's tokens.
pub fn tokenize(kind: Kind, model: &str, text: &str, special: bool) -> (&'static str, Value) {
    match kind {
        Kind::Llamacpp => (
            "/tokenize",
            json!({ "content": text, "add_special": special, "parse_special": true }),
        ),
        // This server adds the model's first token itself, here and when it answers.
        Kind::LlamaCppPython => ("/extras/tokenize", json!({ "model": model, "input": text })),
        _ => (
            "/tokenize",
            json!({ "model": model, "prompt": text, "add_special_tokens": special }),
        ),
    }
}

/// The path outside `/v1` and the body for the text of tokens.
pub fn detokenize(kind: Kind, model: &str, ids: &[u32]) -> (&'static str, Value) {
    let path = match kind {
        Kind::LlamaCppPython => "/extras/detokenize",
        _ => "/detokenize",
    };
    (path, json!({ "model": model, "tokens": ids }))
}

/// The text in a detokenizer's answer.
pub fn text_of(said: &Value) -> Option<&str> {
    ["prompt", "text", "content"]
        .iter()
        .find_map(|name| said[*name].as_str())
}

/// The tokens in an answer of `/tokenize`.
pub fn ids(said: &Value) -> Option<Vec<u32>> {
    let tokens = said.get("tokens")?.as_array()?;
    let id = |token: &Value| {
        token
            .as_u64()
            .or_else(|| token["id"].as_u64())
            .and_then(|id| u32::try_from(id).ok())
    };
    tokens.iter().map(id).collect()
}

fn whole_numbers(list: &Value) -> Vec<u32> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let id = |token: &Value| token.as_u64().and_then(|id| u32::try_from(id).ok());
    list.iter().filter_map(id).collect()
}
