//! Chat templates: the Jinja templates of checkpoints.
//!
//! Templates are not trusted. They run in an engine with access to their arguments only, and with limited fuel, so
//! that an endless loop is an error. Fuel limits steps, not memory: a text that doubles at each step is stopped only
//! by the memory limit of a worker process.

use crate::clock::{self, strftime};
use crate::{Error, Result, methods, python_json};
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, syntax::SyntaxConfig};
use serde_json::{Map, Value as Json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Instructions for one rendering; published templates need a few hundred for each message.
const FUEL: u64 = 5_000_000;
const NAME: &str = "chat";

/// A compiled chat template with the special tokens it may name.
pub struct ChatTemplate {
    engine: Environment<'static>,
    special_tokens: Map<String, Json>,
    thinks: bool,
    openings: OnceLock<Vec<String>>,
}

impl ChatTemplate {
    /// Reads the template of a checkpoint folder; `None` if it has none.
    ///
    /// The order is the reference's: `chat_template.jinja`, `chat_template.json`, and last the
    /// entry in `tokenizer_config.json`, which may be a text or a list of named texts.
    pub fn from_folder(folder: &Path) -> Result<Option<ChatTemplate>> {
        let config_path = folder.join("tokenizer_config.json");
        let config = read_object(&config_path)?.unwrap_or_default();
        let jinja = folder.join("chat_template.jinja");
        let (path, source) = if let Some(source) = read_text(&jinja)? {
            (jinja, Some(source))
        } else {
            let json = folder.join("chat_template.json");
            match read_object(&json)?
                .as_ref()
                .and_then(|o| o.get("chat_template"))
                .and_then(pick)
            {
                Some(source) => (json, Some(source)),
                None => (config_path, config.get("chat_template").and_then(pick)),
            }
        };
        let Some(source) = source else { return Ok(None) };
        ChatTemplate::of(path, source, special_tokens_of(folder)?).map(Some)
    }

    /// The template in this file.
    pub(crate) fn of(path: PathBuf, source: String, special_tokens: Map<String, Json>) -> Result<ChatTemplate> {
        ChatTemplate::new(source, special_tokens).map_err(|reason| Error::Malformed { path, reason })
    }

    /// Compiles a template; errors are the engine's, with the line number.
    pub fn new(source: String, special_tokens: Map<String, Json>) -> std::result::Result<ChatTemplate, String> {
        let thinks = source.contains("<think>");
        let mut engine = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        engine.set_syntax(syntax.map_err(|e| e.to_string())?);
        engine.set_fuel(Some(FUEL));
        engine.set_unknown_method_callback(methods::call);
        engine.add_function("raise_exception", raise_exception);
        engine.add_function("strftime_now", |format: String| strftime(&format, clock::now()));
        engine.add_filter("tojson", to_json);
        engine
            .add_template_owned(NAME, without_marks(&source))
            .map_err(explain)?;
        Ok(ChatTemplate {
            engine,
            special_tokens,
            thinks,
            openings: OnceLock::new(),
        })
    }

    /// Whether the template supports reasoning, `<think>…</think>`.
    pub fn thinks(&self) -> bool {
        self.thinks
    }

    /// What the template writes at the beginning of an answer: with reasoning off, and by default.
    pub fn openings(&self) -> &[String] {
        self.openings.get_or_init(|| {
            let asked = [serde_json::json!({ "role": "user", "content": "x" })];
            let opening = |extra: &Map<String, Json>| -> Option<String> {
                let closed = self.render(&asked, false, extra).ok()?;
                let open = self.render(&asked, true, extra).ok()?;
                open.strip_prefix(&closed)
                    .filter(|end| !end.is_empty())
                    .map(str::to_owned)
            };
            let off = Map::from_iter([("enable_thinking".to_owned(), false.into())]);
            let mut openings: Vec<String> = [&off, &Map::new()].into_iter().filter_map(opening).collect();
            openings.dedup();
            openings
        })
    }

    /// Renders messages, each an object with `role` and `content`, as the reference would.
    ///
    /// `extra` are arguments of some templates, such as `enable_thinking`.
    pub fn render(&self, messages: &[Json], add_generation_prompt: bool, extra: &Map<String, Json>) -> Result<String> {
        let mut context = self.special_tokens.clone();
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        context.insert("tools".into(), Json::Null);
        context.insert("documents".into(), Json::Null);
        context.extend(extra.iter().map(|(name, value)| (name.clone(), value.clone())));
        let render = || {
            let template = self.engine.get_template(NAME)?;
            template.render(Value::from(Serde(context)))
        };
        // The engine panics on some templates (`''[::-1]`); that fails the prompt only.
        let rendered = catch_unwind(AssertUnwindSafe(render)).unwrap_or_else(|_| {
            Err(minijinja::Error::new(
                ErrorKind::InvalidOperation,
                "the template engine failed on it",
            ))
        });
        rendered.map_err(|error| Error::Render { reason: explain(error) })
    }

    /// Renders messages of which the last one is the beginning of the answer, to be continued.
    ///
    /// What the template writes after those words, such as an end-of-turn token, is removed.
    pub fn render_open(&self, messages: &[Json], extra: &Map<String, Json>) -> Result<String> {
        let opening = messages.last().and_then(|m| m["content"].as_str()).unwrap_or_default();
        let trimmed = opening.trim();
        if trimmed.is_empty() {
            let mut text = self.render(&messages[..messages.len().saturating_sub(1)], true, extra)?;
            text.push_str(opening);
            return Ok(text);
        }
        let mut text = self.render(messages, false, extra)?;
        let lost = || Error::OpeningLost {
            opening: trimmed.to_owned(),
        };
        let start = text.rfind(trimmed).ok_or_else(lost)?;
        // Blanks at the end are kept if the template keeps them.
        let with_blanks = opening.trim_start();
        let end = start
            + if text[start..].starts_with(with_blanks) {
                with_blanks
            } else {
                trimmed
            }
            .len();
        text.truncate(end);
        Ok(text)
    }
}

/// Replaces the tags that mark generated text for training by plain conditions, since the engine does not have them.
fn without_marks(source: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(source.len()), source);
    while let Some((before, tag)) = rest.split_once("{%")
        && let Some((inside, after)) = tag.split_once("%}")
    {
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        let plain = match word {
            "generation" => inside.replace(word, "if true"),
            "endgeneration" => inside.replace(word, "endif"),
            _ => inside.to_owned(),
        };
        kept.extend([before, "{%", &plain, "%}"]);
        rest = after;
    }
    kept + rest
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// `json.dumps`: the reference's replacement for Jinja's own filter, which escapes HTML.
fn to_json(value: Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let json: Json =
        serde_json::to_value(&value).map_err(|e| minijinja::Error::new(ErrorKind::InvalidOperation, e.to_string()))?;
    let style = python_json::Style {
        indent,
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: sort_keys.unwrap_or(false),
        separators: match separators.as_deref() {
            Some([item, key]) => Some((item.clone(), key.clone())),
            None => None,
            Some(_) => {
                let what = "`separators` are two texts";
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, what));
            }
        },
    };
    Ok(python_json::dumps(&json, &style))
}

/// The engine's message with its causes and the line of the template.
fn explain(error: minijinja::Error) -> String {
    let mut text = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    if let Some(line) = error.line() {
        text.push_str(&format!(" (line {line} of the template)"));
    }
    text
}

/// A template entry is a text, or a list of named texts of which `default` is for chat.
fn pick(entry: &Json) -> Option<String> {
    match entry {
        Json::String(source) => Some(source.clone()),
        Json::Array(named) => {
            let is_default = |t: &&Json| t["name"] == "default";
            let chosen = named.iter().find(is_default).or_else(|| named.first())?;
            chosen["template"].as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// The special tokens of a checkpoint folder: `bos_token` and similar ones.
pub(crate) fn special_tokens_of(folder: &Path) -> Result<Map<String, Json>> {
    let mut all = Map::new();
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let named = special_tokens(&read_object(&folder.join(file))?.unwrap_or_default());
        for (name, token) in named {
            all.entry(name).or_insert(token);
        }
    }
    Ok(all)
}

/// Each is a text, or an object that contains one.
fn special_tokens(config: &Map<String, Json>) -> Map<String, Json> {
    const NAMES: [&str; 7] = [
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    ];
    let text = |value: &Json| value.as_str().or_else(|| value["content"].as_str()).map(Json::from);
    NAMES
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), text(config.get(*name)?)?)))
        .collect()
}

fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

pub(crate) fn read_object(path: &Path) -> Result<Option<Map<String, Json>>> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}
