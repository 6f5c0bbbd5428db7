//! Identifies the server: its engine, version, and description of the model.

use plugin_api::{Code, Error, Level, Result, log};
use remote::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The address at which servers of a common framework describe themselves.
const DESCRIPTION: &str = "/openapi.json";

/// The engines with known behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Vllm,
    Sglang,
    Llamacpp,
    /// The server of llama.cpp's Python binding, which has the same engine and another API.
    #[serde(rename = "llama-cpp-python")]
    LlamaCppPython,
    Ollama,
    /// `transformers serve`, which refuses unknown fields and takes missing ones from the model's own file.
    Transformers,
    /// OpenAI's own service, and every unidentified server: it is sent no field that OpenAI's service lacks.
    #[default]
    Openai,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Kind::Vllm => "vllm",
            Kind::Sglang => "sglang",
            Kind::Llamacpp => "llamacpp",
            Kind::LlamaCppPython => "llama-cpp-python",
            Kind::Transformers => "transformers",
            Kind::Ollama => "ollama",
            Kind::Openai => "openai",
        }
    }

    pub fn parse(word: &str) -> Option<Kind> {
        let all = [
            Kind::Vllm,
            Kind::Sglang,
            Kind::Llamacpp,
            Kind::LlamaCppPython,
            Kind::Ollama,
            Kind::Transformers,
            Kind::Openai,
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// Whether unknown fields are ignored instead of refused.
    pub fn takes_more_fields(self) -> bool {
        !matches!(self, Kind::Openai | Kind::Transformers)
    }

    /// Whether fields missing from a request come from a file on the server.
    pub fn has_own_defaults(self) -> bool {
        self != Kind::Openai
    }
}

/// A server and its model, as far as they are known.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    pub kind: Kind,
    pub version: Option<String>,
    pub model: String,
    pub context: Option<u32>,
    /// The entry of `/v1/models` for the model, and those of the LoRAs served with it.
    pub entry: Value,
    pub served: Vec<Value>,
}

impl Engine {
    /// Asks one address. A wrong key and an unknown name are found here, before any work.
    pub fn find(client: &Client, place: usize, model: Option<&str>, kind: Option<Kind>) -> Result<Engine> {
        let host = client.pool().addresses()[place].host.clone();
        let say = |words: &str| {
            log(Level::Warning, &format!("waiting for the engine: {words}"));
        };
        let (status, listed, got) = client.look_patiently(place, "/models", &say)?;
        if status != 200 {
            let refused = match status {
                // If the server has no list of models, the answer to the first prompt decides.
                404 | 405 => None,
                _ => client.refusal(status, got.as_ref()),
            };
            if let Some(error) = refused {
                return Err(error);
            }
        }
        let served: Vec<Value> = listed["data"].as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = served.iter().filter_map(|entry| entry["id"].as_str()).collect();
        let name = match (model, &names[..]) {
            (Some(model), []) => model.to_owned(),
            (Some(model), names) => match names.iter().find(|name| same(name, model)) {
                Some(name) => (*name).to_owned(),
                None => {
                    let error = Error::new(Code::MISSING, format!("`{host}` serves no model `{model}`"));
                    return Err(error.help(format!(
                        "it serves `{}`",
                        names.iter().take(20).copied().collect::<Vec<_>>().join("`, `")
                    )));
                }
            },
            (None, [only]) => (*only).to_owned(),
            (None, names) => {
                let error = Error::new(Code::SETTINGS, "setting `model` is missing");
                return Err(match names.is_empty() {
                    true => error.help("give the name of the model as the service calls it, with `-M model=NAME`"),
                    false => error.help(format!(
                        "`{host}` serves `{}`",
                        names.iter().take(20).copied().collect::<Vec<_>>().join("`, `")
                    )),
                });
            }
        };
        let entry = served
            .iter()
            .find(|entry| entry["id"].as_str() == Some(&name))
            .cloned()
            .unwrap_or(Value::Null);
        let mut engine = Engine {
            kind: Kind::Openai,
            version: None,
            model: name,
            context: context(&entry),
            entry,
            served,
        };
        engine.kind = kind.unwrap_or_else(|| engine.own_kind(client, place));
        engine.describe(client, place);
        Ok(engine)
    }

    /// The engine by its list of models, or by its own addresses if the list does not tell.
    fn own_kind(&self, client: &Client, place: usize) -> Kind {
        match self.entry["owned_by"].as_str() {
            Some("vllm") => return Kind::Vllm,
            Some("sglang") => return Kind::Sglang,
            Some("llamacpp") => return Kind::Llamacpp,
            Some("library") => return Kind::Ollama,
            Some("openai" | "system") => return Kind::Openai,
            _ => {}
        }
        let there = |path: &str, field: &str| {
            client
                .look_beside(place, path)
                .is_some_and(|value| value.get(field).is_some())
        };
        match () {
            () if there("/get_model_info", "model_path") => Kind::Sglang,
            () if there("/props", "default_generation_settings") => Kind::Llamacpp,
            () if there("/api/version", "version") => Kind::Ollama,
            () if there("/version", "version") => Kind::Vllm,
            () => Self::by_description(client, place),
        }
    }

    /// The engine by the server's own description, if nothing else tells.
    fn by_description(client: &Client, place: usize) -> Kind {
        let Some(said) = client.look_beside(place, DESCRIPTION) else {
            return Kind::Openai;
        };
        let title = said["info"]["title"].as_str().unwrap_or_default();
        let paths = &said["paths"];
        match () {
            () if title.contains("llama.cpp Python") => Kind::LlamaCppPython,
            () if paths.get("/load_model").is_some() && paths.get("/v1/chat/completions").is_some() => {
                Kind::Transformers
            }
            () => Kind::Openai,
        }
    }

    fn describe(&mut self, client: &Client, place: usize) {
        let (path, field) = match self.kind {
            Kind::Vllm => ("/version", "version"),
            Kind::Sglang => ("/get_server_info", "version"),
            Kind::Llamacpp => ("/props", "build_info"),
            Kind::Ollama => ("/api/version", "version"),
            Kind::LlamaCppPython => (DESCRIPTION, "info"),
            Kind::Transformers | Kind::Openai => return,
        };
        let Some(said) = client.look_beside(place, path) else {
            return;
        };
        let version = said[field].as_str().or(said[field]["version"].as_str());
        self.version = version.map(str::to_owned);
        if self.context.is_none() {
            let window = [
                &said["default_generation_settings"]["n_ctx"],
                &said["max_total_num_tokens"],
            ];
            self.context = window
                .into_iter()
                .find_map(Value::as_u64)
                .and_then(|size| u32::try_from(size).ok());
        }
    }

    /// The entry of a LoRA, if it is served.
    pub fn lora(&self, name: &str) -> Option<&Value> {
        self.served.iter().find(|entry| entry["id"].as_str() == Some(name))
    }

    /// The engine's part of every run's record.
    pub fn card(&self) -> Value {
        json!({
            "kind": self.kind.word(), "version": self.version, "model": self.model, "root": self.entry["root"], "parent": self.entry["parent"],
            "max_model_len": self.context, "entry": self.entry,
        })
    }
}

/// Whether two names mean the same model: Ollama adds a tag that may be omitted.
fn same(served: &str, asked: &str) -> bool {
    served == asked || served.strip_suffix(":latest") == Some(asked)
}

fn context(entry: &Value) -> Option<u32> {
    let places = [
        &entry["max_model_len"],
        &entry["meta"]["n_ctx"],
        &entry["meta"]["n_ctx_train"],
        &entry["context_window"],
    ];
    places
        .into_iter()
        .find_map(Value::as_u64)
        .and_then(|size| u32::try_from(size).ok())
}
