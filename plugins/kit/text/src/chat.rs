//! From a prompt to tokens.
//!
//! The rendered template is tokenised without post-processing: it already spells every special token, and
//! post-processing would add some of them again.

use crate::reader::{Reader, Reading};
use crate::template::{self, ChatTemplate};
use crate::{Error, Tokenizer, from_gguf};
use plugin_api::{Message, Part, Prompt, PromptTokens, Result, Role, Sampling};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The placeholder of a clip for a model without a checkpoint.
const CLIP: &str = "<|AUDIO|>";

/// A checkpoint's tokenizer and chat template, and what its settings add to prompts.
pub struct Chat {
    pub(crate) tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    /// The first token of an empty context.
    first_token: Option<u32>,
    /// The checkpoint's `eos_token`.
    end_token: Option<u32>,
    manner: Manner,
    /// How a text is split into pieces that are tokenised separately; none if it is not.
    pieces: Option<Pieces>,
    /// The placeholder of a clip in a prompt without a template.
    pub(crate) clip_words: Option<String>,
    /// Tokens from this one on have no row in the embedding table.
    rows: Option<u32>,
    place: PathBuf,
}

/// Additions to prompts that leave these things open.
#[derive(Debug, Clone, Default)]
struct Manner {
    thinking: Option<bool>,
    /// The system text of a conversation without one.
    system: Option<String>,
    /// Words at the end of the last question that ask for reasoning.
    thinking_words: Option<String>,
}

/// For models that split a text at every clip and tokenise the pieces separately.
///
/// It matters if a tokenizer adds something before every text, as SentencePiece adds a blank.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// The placeholder of a clip in the text.
    pub mark: String,
    /// The token that replaces it.
    pub clip: u32,
    /// The token that begins every text.
    pub first: u32,
}

/// The tokens of a context and of each of its continuations.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    pub context: Vec<u32>,
    pub options: Vec<Vec<u32>>,
}

pub(crate) struct Rendered {
    pub text: String,
    /// Whether the end was written by the prompt's author, not by the template.
    pub open: bool,
}

impl Chat {
    /// Reads `tokenizer.json` and the chat template of a checkpoint folder, or takes them from a GGUF file without a
    /// `tokenizer.json` beside it.
    pub fn from_folder(folder: &Path) -> crate::Result<Chat> {
        let (folder, file) = from_gguf::beside(folder)?;
        let (mut specials, mut template) = (
            template::special_tokens_of(&folder)?,
            ChatTemplate::from_folder(&folder)?,
        );
        let tokenizer = match &file {
            Some(file) if !folder.join("tokenizer.json").is_file() => {
                let json = from_gguf::tokenizer(file)?.to_string();
                Tokenizer::from_json(json.as_bytes(), file.path().to_owned())?
            }
            _ => Tokenizer::from_folder(&folder)?,
        };
        if let Some(file) = &file {
            for (name, token) in from_gguf::special_tokens(file) {
                specials.entry(name).or_insert(token);
            }
            if let (None, Some(source)) = (&template, from_gguf::template(file)) {
                template = Some(ChatTemplate::of(file.path().to_owned(), source, specials.clone())?);
            }
        }
        let first_token = ["bos_token", "eos_token"]
            .iter()
            .find_map(|name| tokenizer.id(specials.get(*name)?.as_str()?));
        let end_token = specials
            .get("eos_token")
            .and_then(|value| tokenizer.id(value.as_str()?));
        Ok(Chat {
            tokenizer: Arc::new(tokenizer),
            template,
            first_token,
            end_token,
            manner: Manner::default(),
            pieces: None,
            clip_words: None,
            rows: None,
            place: file.map_or(folder, |file| file.path().to_owned()),
        })
    }

    /// A tokenizer of bytes and a template that only joins messages, for a model without a checkpoint.
    pub fn of_bytes() -> crate::Result<Chat> {
        let source = "{% for message in messages %}{% if message.content is string %}{{ message.content }}{% else %}\
            {% for part in message.content %}{{ part.text if part.type == 'text' else CLIP }}{% endfor %}{% endif %}\
            {% endfor %}"
            .replace("CLIP", &format!("'{CLIP}'"));
        let folder = PathBuf::from("bytes");
        let template = ChatTemplate::new(source, Map::new()).map_err(|reason| Error::Malformed {
            path: folder.clone(),
            reason,
        })?;
        Ok(Chat {
            tokenizer: Arc::new(Tokenizer::of_bytes()?),
            template: Some(template),
            first_token: Some(0),
            end_token: Some(0),
            manner: Manner::default(),
            pieces: None,
            clip_words: None,
            rows: None,
            place: folder,
        })
    }

    /// The same for an audio model, whose clips become this token, which no byte becomes.
    pub fn of_bytes_and_clips(token: u32) -> crate::Result<Chat> {
        let pieces = Pieces {
            mark: CLIP.to_owned(),
            clip: token,
            first: 0,
        };
        Ok(Chat::of_bytes()?.with_clip_words(CLIP).with_pieces(pieces))
    }

    /// The default for prompts that leave [`Prompt::thinking`] open; `None` is the template's own default.
    pub fn with_thinking(mut self, thinking: Option<bool>) -> Chat {
        self.manner.thinking = thinking;
        self
    }

    /// For a model that is asked to reason by these words, on a line of their own after the last question.
    pub fn with_thinking_words(mut self, words: &str) -> Chat {
        self.manner.thinking_words = Some(words.to_owned());
        self
    }

    /// For a model whose prompt format is known and whose checkpoint has no template.
    pub fn with_template(mut self, template: ChatTemplate) -> Chat {
        self.template = Some(template);
        self
    }

    pub fn with_pieces(mut self, pieces: Pieces) -> Chat {
        self.pieces = Some(pieces);
        self
    }

    /// The system text of conversations without one; `None` or an empty text is the template's own default.
    pub fn with_system(mut self, system: Option<String>) -> Chat {
        self.manner.system = system.filter(|system| !system.is_empty());
        self
    }

    /// The placeholder of a clip in a prompt without a template; templates have their own.
    pub fn with_clip_words(mut self, words: &str) -> Chat {
        self.clip_words = Some(words.to_owned());
        self
    }

    /// For families that share a tokenizer, some of whose special tokens exist only in the larger embedding tables.
    ///
    /// Ordinary tokens beyond the table are refused here, as by [`Tokenizer::check_rows`]; special tokens only when a
    /// text spells one.
    pub fn with_rows(mut self, rows: usize) -> crate::Result<Chat> {
        self.tokenizer.check_rows_of_words(rows)?;
        self.rows = u32::try_from(rows).ok();
        Ok(self)
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Whether the template supports reasoning.
    pub fn thinks(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::thinks)
    }

    /// The text of a prompt and its tokens.
    pub fn encode(&self, prompt: &Prompt) -> Result<PromptTokens> {
        self.encode_in(&self.manner, prompt)
    }

    /// The same without the additions of settings, as references render their recordings.
    pub fn encode_as_it_is(&self, prompt: &Prompt) -> Result<PromptTokens> {
        self.encode_in(&Manner::default(), prompt)
    }

    fn encode_in(&self, manner: &Manner, prompt: &Prompt) -> Result<PromptTokens> {
        let rendered = self.render(manner, prompt)?;
        let mut ids = self
            .cut(prompt.plain, &rendered.text)
            .map_err(Error::into_plugin_error)?;
        if ids.is_empty() {
            ids.push(self.first_token()?);
        }
        Ok(PromptTokens {
            text: rendered.text,
            ids,
        })
    }

    /// The tokens of a prompt and of each of its options.
    ///
    /// As in lm-eval, context and option are tokenised together and split at the length of the context, and blanks at
    /// the end of the author's text belong to the option. Text that the template adds at the end stays in the context.
    pub fn encode_choices(&self, prompt: &Prompt, options: &[String]) -> Result<Choices> {
        let rendered = self.render(&self.manner, prompt)?;
        let kept = if rendered.open {
            rendered.text.trim_end().len()
        } else {
            rendered.text.len()
        };
        let (context, blanks) = rendered.text.split_at(kept);
        let mut context_ids = self.cut(prompt.plain, context).map_err(Error::into_plugin_error)?;
        let mut cut_options = Vec::with_capacity(options.len());
        for option in options {
            let option = format!("{blanks}{option}");
            let mut whole = self
                .cut(prompt.plain, &format!("{context}{option}"))
                .map_err(Error::into_plugin_error)?;
            let mut tokens = whole.split_off(context_ids.len().min(whole.len()));
            if tokens.is_empty() {
                // The option's beginning merged into the context's last token, so the option is tokenised alone.
                tokens = self
                    .known(self.tokenizer.encode(&option))
                    .map_err(Error::into_plugin_error)?;
            }
            cut_options.push(tokens);
        }
        if context_ids.is_empty() {
            context_ids.push(self.first_token()?);
        }
        Ok(Choices {
            context: context_ids,
            options: cut_options,
        })
    }

    /// The first token of an empty text, since a model needs at least one.
    fn first_token(&self) -> Result<u32> {
        self.first_token.ok_or_else(|| Error::EmptyContext.into_plugin_error())
    }

    /// The token that ends a text without a template.
    pub(crate) fn end_token(&self) -> Result<u32> {
        self.end_token.ok_or_else(|| {
            let message = format!("`{}` names no `eos_token`", self.place.display());
            plugin_api::Error::new(plugin_api::Code::DATA, message)
                .help("name one in its `tokenizer_config.json`, or choose lessons that the chat template ends")
        })
    }

    /// A reader for the answer to this prompt.
    pub fn reader(&self, prompt: &Prompt, rendered: &str, sampling: &Sampling) -> Reader {
        let thinks = self.thinks() && !prompt.plain;
        let opened = thinks && rendered.trim_end().ends_with("<think>");
        Reader::new(
            self.tokenizer.clone(),
            Reading {
                thinks,
                opened,
                stop: sampling.stop.clone(),
            },
        )
    }

    fn render(&self, manner: &Manner, prompt: &Prompt) -> Result<Rendered> {
        if prompt.plain {
            return Ok(Rendered {
                text: plain_text(&prompt.messages, self.clip_words.as_deref())?,
                open: true,
            });
        }
        let thinking = prompt.thinking.or(manner.thinking);
        let messages = manner.messages(&prompt.messages, thinking)?;
        let mut extra = Map::new();
        if let Some(thinking) = thinking {
            extra.insert("enable_thinking".into(), thinking.into());
        }
        if !prompt.tools.is_empty() {
            extra.insert("tools".into(), prompt.tools.clone().into());
        }
        let template = self.template().map_err(Error::into_plugin_error)?;
        let open = prompt
            .messages
            .last()
            .is_some_and(|message| message.role == Role::Assistant);
        let text = match open {
            true => template.render_open(&messages, &extra),
            false => template.render(&messages, true, &extra),
        };
        let text = text.map_err(Error::into_plugin_error)?;
        // Otherwise the model would get an empty question, and its reply would be scored.
        let said = |message: &Message| !message.joined_text().trim().is_empty();
        if text.trim().is_empty() && prompt.messages.iter().any(said) {
            let reason = "it writes nothing at all for them".to_owned();
            return Err(Error::Render { reason }.into_plugin_error());
        }
        Ok(Rendered { text, open })
    }

    /// The messages of a lesson in the form that chat templates read. Reasoning is asked for if an answer has some.
    pub(crate) fn lesson_messages(&self, messages: &[Message]) -> Result<Vec<Value>> {
        let reasons = messages.iter().any(|message| message.thinking.is_some());
        self.manner.messages(messages, Some(reasons))
    }

    /// What a prompt for an answer without reasoning says about it: nothing, unless reasoning is asked for in words.
    pub(crate) fn without_reasoning(&self) -> Option<bool> {
        self.manner.thinking_words.as_ref().map(|_| false)
    }

    pub(crate) fn template(&self) -> crate::Result<&ChatTemplate> {
        self.template.as_ref().ok_or_else(|| Error::NoTemplate {
            place: self.place.clone(),
        })
    }

    fn cut(&self, plain: bool, text: &str) -> crate::Result<Vec<u32>> {
        self.known(match (&self.pieces, plain) {
            (Some(_), _) => Ok(self.places(text, plain)?.into_iter().map(|(token, _)| token).collect()),
            (None, true) => self.tokenizer.encode_bare(text),
            (None, false) => self.tokenizer.encode(text),
        })
    }

    /// The tokens of a text with their ranges of bytes.
    pub(crate) fn places(&self, text: &str, plain: bool) -> crate::Result<Vec<(u32, Range<usize>)>> {
        let Some(pieces) = &self.pieces else {
            return self.tokenizer.encode_with_places(text, plain);
        };
        let (mut tokens, mut start) = (vec![(pieces.first, 0..0)], 0);
        for (number, piece) in text.split(&pieces.mark).enumerate() {
            tokens.extend((number > 0).then(|| (pieces.clip, start - pieces.mark.len()..start)));
            let cut = self.tokenizer.encode_with_places(piece, false)?;
            tokens.extend(
                cut.into_iter()
                    .map(|(token, at)| (token, start + at.start..start + at.end)),
            );
            start += piece.len() + pieces.mark.len();
        }
        Ok(tokens)
    }

    /// The same tokens, if the embedding table has a row for each.
    pub(crate) fn known(&self, tokens: crate::Result<Vec<u32>>) -> crate::Result<Vec<u32>> {
        let tokens = tokens?;
        match tokens
            .iter()
            .find(|&&token| self.rows.is_some_and(|rows| token >= rows))
        {
            Some(&token) => Err(Error::NoRow {
                piece: self.tokenizer.piece(token).unwrap_or_default(),
            }),
            None => Ok(tokens),
        }
    }
}

impl Manner {
    /// Messages in the form that chat templates read, with the additions of settings.
    fn messages(&self, messages: &[Message], thinking: Option<bool>) -> Result<Vec<Value>> {
        let mut json = messages.iter().map(to_json).collect::<Result<Vec<_>>>()?;
        let asked = messages.iter().rposition(|message| message.role == Role::User);
        if let (Some(true), Some(words), Some(asked)) = (thinking, &self.thinking_words, asked) {
            let mut question = messages[asked].clone();
            let line = if question.joined_text().is_empty() { "" } else { "\n" };
            question.parts.push(Part::text(format!("{line}{words}")));
            json[asked] = to_json(&question)?;
        }
        let spoken = |message: &Message| message.role == Role::System;
        if let Some(system) = self.system.as_ref().filter(|_| !messages.iter().any(spoken)) {
            json.insert(0, json!({ "role": "system", "content": system }));
        }
        Ok(json)
    }
}

/// The texts of all messages, concatenated, with this placeholder for clips.
pub(crate) fn plain_text(messages: &[Message], clip_words: Option<&str>) -> Result<String> {
    let mut text = String::new();
    for part in messages.iter().flat_map(|message| &message.parts) {
        match (part, clip_words) {
            (Part::Text { text: words }, _) => text.push_str(words),
            (Part::Clip { .. }, Some(words)) => text.push_str(words),
            (Part::Clip { .. }, None) => {
                return Err(plugin_api::Error::unsupported(
                    "this model has no placeholder for clips in prompts without a chat template",
                ));
            }
            _ => return Err(unknown_part()),
        }
    }
    Ok(text)
}

fn unknown_part() -> plugin_api::Error {
    plugin_api::Error::unsupported("a message has a part of an unknown kind")
}

/// A message in the form that chat templates read.
fn to_json(message: &Message) -> Result<Value> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
        Role::Unknown => {
            return Err(plugin_api::Error::unsupported("a message has an unknown role"));
        }
    };
    let mut object = json!({ "role": role, "content": content(message)? });
    if let Some(thinking) = &message.thinking {
        object["reasoning_content"] = thinking.as_str().into();
    }
    if !message.tool_calls.is_empty() {
        object["tool_calls"] = message.tool_calls.clone().into();
    }
    if let Some(name) = &message.name {
        object["name"] = name.as_str().into();
    }
    Ok(object)
}

/// Text alone is a string; with clips, a list of parts in the reference's format.
fn content(message: &Message) -> Result<Value> {
    let mut parts = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        parts.push(match part {
            Part::Text { text } => json!({ "type": "text", "text": text }),
            Part::Clip { clip, .. } => json!({ "type": "audio", "audio": clip }),
            _ => return Err(unknown_part()),
        });
    }
    match parts.iter().all(|part| part["type"] == "text") {
        true => Ok(message.joined_text().into()),
        false => Ok(parts.into()),
    }
}
