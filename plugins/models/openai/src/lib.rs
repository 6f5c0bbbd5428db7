//! Any OpenAI-compatible server as a model: vLLM, SGLang, llama.cpp's server, Ollama, OpenAI, or a cluster behind
//! several addresses.
//!
//! The card says what this server can do, and that is found by effect: servers answer 200 to what they ignore. The
//! decision a newcomer would question: every sampling value is sent in every request, also those equal to a default,
//! since what is left out comes from a file on the server that no record would show.

mod cache;
mod chat;
mod choices;
mod engine;
mod forced;
mod model;
mod parity;
mod probe;
mod reply;
mod scoring;
mod tokens;

use chat::{AudioPart, Manner, Switch};
use choices::Way;
use engine::{Engine, Kind};
use model::{Inner, Lora};
use plugin_api::{
    Call, Code, Commander, Constraint, Error, Jobs, Level, Model, ModelCard, Prompt, PromptTokens, Reads, Reply,
    Result, Settings, export_plugin, log, register_model,
};
use probe::Capabilities;
use remote::{AudioFormat, Client, Common, Spread, serve};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use text::Chat;
use tokens::{Cutter, SAMPLE};

register_model!("openai", "Any OpenAI-compatible server, over HTTP", load, {
    model: text, "the model's name at the server; left out, the only one that is served";
    base_url: text = "https://api.openai.com/v1", "where the server is; several addresses are separated by commas";
    key_env: secret, "the variable that holds the key: OPENAI_API_KEY if left out, for OpenAI itself and this machine";
    key_file: path, "a file that holds the key and that nobody else can read";
    engine: text ["auto", "vllm", "sglang", "llamacpp", "llama-cpp-python", "ollama", "transformers", "openai"] = "auto", "which engine serves";
    probe: text ["auto", "on", "off"] = "auto", "whether to find out by requests what the server can do; `auto` spares engines that say nothing of themselves";
    tokenizer: path, "the served model's own folder: text prompts are then cut here and sent as token ids";
    concurrency: text = "4-32-256", "calls under way at each address: the first number, or least-first-most";
    rpm: number, "the most calls a minute";
    tpm: number, "the most tokens a minute";
    max_tokens: integer = 1024, "longest answer where a prompt sets none";
    thinking: flag, "whether to reason first where a prompt does not say";
    hears: text ["auto", "on", "off"] = "auto", "whether clips are sent";
    longest_clip: number, "the longest clip that is sent, in seconds";
    audio_part: text ["auto", "input_audio", "audio_url"] = "auto", "how clips stand in messages";
    audio_format: text ["wav16", "wav32"] = "wav16", "how clips are written";
    choices: text ["auto", "tokens", "continue", "first-token", "off"] = "auto", "how options are scored";
    lora: text, "served LoRAs: NAME=SERVED,…; of llama.cpp, NAME=ID";
    mixed: flag = false, "let several addresses serve different models or versions";
    stream: text ["auto", "on", "off"] = "auto", "whether answers come in pieces";
    tries: integer = 6, "attempts at a call that failed without being charged";
    resend: integer = 1, "attempts more at a call that may have been charged";
    patience: number = 300, "the longest wait, in seconds, that a server may ask for";
    first_pause: number = 1, "seconds before the second attempt; doubled each time";
    connect: number = 10, "seconds for a connection";
    silence: number = 120, "seconds without a byte";
    deadline: number = 300, "seconds for a whole call";
    wait_for_engine: number = 600, "seconds to wait for a server that still loads or is not there yet";
    prices: path, "a TOML file of prices, laid over those that come with the program";
    extra: text, "a JSON object laid over each request";
});
export_plugin!();

struct OpenAi {
    inner: Arc<Inner>,
}

fn load(settings: &Settings) -> Result<OpenAi> {
    let service = remote::Service {
        base: "https://api.openai.com/v1",
        path: "/v1",
        keys: &["OPENAI_API_KEY"],
        spread: Spread {
            min: 4,
            start: 32,
            max: 256,
        },
    };
    let common = Common::read(settings, service)?;
    for warning in &common.warnings {
        log(Level::Warning, warning);
    }
    let places = common.addresses.len() as u32;
    let most = common.spread.max.saturating_mul(places);
    let client = Client::new(Box::new(reply::OpenAi), common);
    let word = |name: &str| settings.or(name, "auto".to_owned());
    let kind = Kind::parse(&word("engine")?);
    let asked = settings.get::<String>("model")?.filter(|name| !name.is_empty());
    let engine = engine_of(&client, asked.as_deref(), kind, settings.or("mixed", false)?)?;
    let local = settings.get::<PathBuf>("tokenizer")?;
    let chat = local
        .as_deref()
        .map(|folder| Chat::from_folder(folder).map_err(text::Error::into_plugin_error))
        .transpose()?;
    if let Some(chat) = &chat {
        same_tokens(&client, &engine, chat)?;
    }
    let hears = word("hears")?;
    let probing = word("probe")?;
    let found = match probing.as_str() {
        "on" => cache::found(&client, &engine, hears != "off", true),
        "auto" if engine.kind != Kind::Openai => cache::found(&client, &engine, hears != "off", false),
        // Nothing was probed: the documentation of OpenAI's own service is taken as true.
        _ => Capabilities {
            first_token: true,
            constrains: Some("response_format".to_owned()),
            ..Capabilities::default()
        },
    };
    let part = match word("audio_part")?.as_str() {
        "audio_url" => Some(AudioPart::AudioUrl),
        "input_audio" => Some(AudioPart::InputAudio),
        _ => found.audio_part(),
    };
    let hears = match hears.as_str() {
        "off" => false,
        "on" if found
            .seen
            .get("audio")
            .is_some_and(|seen| seen.as_str().is_some_and(|seen| seen.contains("dropped"))) =>
        {
            let error = Error::new(
                Code::SETTINGS,
                format!("`hears=on`, but `{}` takes sound and drops it", engine.model),
            );
            return Err(error.help(
                "as many tokens are read of one second as of three; serve a model that hears, or set `hears=off`",
            ));
        }
        "on" => true,
        _ => found.audio_part().is_some(),
    };
    let manner = Manner {
        kind: engine.kind,
        max_tokens: settings.or("max_tokens", 1024)?,
        thinking: settings.get("thinking")?,
        switch: found.switch(),
        part: part.unwrap_or_default(),
        format: AudioFormat::parse(&settings.or("audio_format", "wav16".to_owned())?)?,
        stream: false,
        extra: extra(settings)?,
    };
    let loras = loras(settings.get::<String>("lora")?.as_deref().unwrap_or_default(), &engine)?;
    let ways = ways(&word("choices")?, &found, chat.is_some())?;
    let card = card(
        &client,
        &engine,
        &found,
        settings,
        Card {
            hears,
            ways: &ways,
            loras: &loras,
            most,
            sent_as_ids: chat.is_some(),
        },
    )?;
    let cutter = match chat {
        Some(chat) => Cutter::Local(Box::new(chat)),
        None => Cutter::Server,
    };
    let stream = match word("stream")?.as_str() {
        "off" => false,
        "on" => true,
        // This server aborts a stream when another request arrives.
        _ => engine.kind != Kind::LlamaCppPython,
    };
    Ok(OpenAi {
        inner: Arc::new(Inner::new(
            client, engine, found, manner, cutter, ways, loras, card, stream,
        )),
    })
}

/// The engine at the first address that answers. The others must serve the same one, unless differences are allowed.
fn engine_of(client: &Client, model: Option<&str>, kind: Option<Kind>, mixed: bool) -> Result<Engine> {
    let places = client.pool().addresses().len();
    let alive: Vec<usize> = match places {
        1 => vec![0],
        _ => (0..places)
            .filter(|place| client.look(*place, "/models").is_ok_and(|(status, ..)| status != 503))
            .collect(),
    };
    let first = Engine::find(client, alive.first().copied().unwrap_or(0), model, kind)?;
    for place in alive.into_iter().skip(1) {
        let other = Engine::find(client, place, model, kind)?;
        let differs = [
            ("model", first.model != other.model),
            ("engine", first.kind != other.kind),
            ("version", first.version != other.version),
            ("root", first.entry["root"] != other.entry["root"]),
            ("context", first.context != other.context),
        ];
        if let Some((what, _)) = differs.iter().find(|(_, differs)| *differs)
            && !mixed
        {
            let hosts = client.pool().addresses();
            let error = Error::new(
                Code::SETTINGS,
                format!("`{}` and `{}` differ in their {what}", hosts[0].host, hosts[place].host),
            );
            return Err(
                error.help("serve the same model by the same version everywhere, or allow it with `mixed=true`")
            );
        }
    }
    Ok(first)
}

/// Refuses a server whose tokenizer differs from that of the given folder.
fn same_tokens(client: &Client, engine: &Engine, chat: &Chat) -> Result<()> {
    let (path, body) = tokens::tokenize(engine.kind, &engine.model, SAMPLE, false);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let Ok((200, said)) = client.probe(0, path, true, &body, until) else {
        return Ok(());
    };
    let Some(theirs) = tokens::ids(&said) else {
        return Ok(());
    };
    let ours = chat
        .tokenizer()
        .encode(SAMPLE)
        .map_err(text::Error::into_plugin_error)?;
    if ours == theirs {
        return Ok(());
    }
    let at = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let around = |ids: &[u32]| format!("{:?}", &ids[at.saturating_sub(2)..(at + 3).min(ids.len())]);
    let error = Error::new(
        Code::SETTINGS,
        format!(
            "`{}` is served with another tokenizer than that of `tokenizer`",
            engine.model
        ),
    );
    Err(error
        .cause(format!(
            "token {at} of `{}` differs: around it, this folder has {} and the server {}",
            SAMPLE.escape_debug(),
            around(&ours),
            around(&theirs)
        ))
        .help("give the folder of the model and revision that is served"))
}

fn extra(settings: &Settings) -> Result<Map<String, Value>> {
    match settings.get::<Value>("extra")? {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(Value::String(text)) => serde_json::from_str(&text)
            .map_err(|why| Error::new(Code::SETTINGS, "setting `extra` is not a JSON object").cause(why.to_string())),
        Some(_) => Err(Error::new(Code::SETTINGS, "setting `extra` is not a JSON object")),
    }
}

/// Reads `NAME=SERVED,…`; each must be served.
fn loras(text: &str, engine: &Engine) -> Result<Vec<Lora>> {
    let mut all = Vec::new();
    for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let (name, served) = piece.split_once('=').unwrap_or((piece, piece));
        let lora = Lora {
            name: name.trim().to_owned(),
            served: served.trim().to_owned(),
        };
        let listed = matches!(engine.kind, Kind::Vllm) && !engine.served.is_empty();
        match engine.lora(&lora.served) {
            None if listed => {
                let names: Vec<&str> = engine.served.iter().filter_map(|entry| entry["id"].as_str()).collect();
                let error = Error::new(Code::MISSING, format!("the server has no LoRA `{}`", lora.served));
                return Err(error.help(format!(
                    "it serves `{}`; start it with `--enable-lora --lora-modules {}=DIR`",
                    names.join("`, `"),
                    lora.served
                )));
            }
            Some(entry) if entry["parent"].as_str().is_some_and(|parent| parent != engine.model) => {
                let parent = &entry["parent"];
                return Err(Error::new(
                    Code::SETTINGS,
                    format!(
                        "LoRA `{}` stands on {parent} and not on `{}`",
                        lora.served, engine.model
                    ),
                ));
            }
            _ => {}
        }
        if engine.kind == Kind::Llamacpp && lora.served.parse::<u32>().is_err() {
            return Err(Error::new(
                Code::SETTINGS,
                format!(
                    "LoRA `{}` is `{}`, expected its number at llama.cpp's server",
                    lora.name, lora.served
                ),
            ));
        }
        all.push(lora);
    }
    Ok(all)
}

/// The possible ways of scoring options, the preferred one first.
fn ways(wish: &str, found: &Capabilities, local: bool) -> Result<Vec<Way>> {
    let can = |way: Way| match way {
        Way::Tokens => found.reads_tokens() && (local || found.tokenize),
        Way::Continue => found.continues,
        Way::FirstToken => found.first_token,
        Way::Off => false,
    };
    let all = [Way::Tokens, Way::Continue, Way::FirstToken];
    match all.iter().find(|way| way.word() == wish) {
        Some(way) if can(*way) => Ok(vec![*way]),
        Some(way) => {
            let why = match way {
                Way::Tokens if found.reads_tokens() => "the server cuts no texts; give `tokenizer`",
                _ => "the server gives no such log-probabilities",
            };
            Err(Error::new(Code::SETTINGS, format!("options can't be scored by `choices={wish}`")).cause(why))
        }
        None if wish == "off" => Ok(Vec::new()),
        None => Ok(all.into_iter().filter(|way| can(*way)).collect()),
    }
}

struct Card<'a> {
    hears: bool,
    ways: &'a [Way],
    loras: &'a [Lora],
    most: u32,
    sent_as_ids: bool,
}

fn card(
    client: &Client,
    engine: &Engine,
    found: &Capabilities,
    settings: &Settings,
    of: Card<'_>,
) -> Result<ModelCard> {
    let mut card = ModelCard::text(&engine.model);
    if of.hears {
        card.reads.push(Reads::Audio);
        card.sample_rate = Some(16_000);
    }
    card.longest_clip = settings.get("longest_clip")?;
    card.context = engine.context;
    card.scores_choices = !of.ways.is_empty();
    card.thinks = found.switch() != Switch::None;
    card.batch = of.most;
    card.concurrency = Some(of.most);
    card.loras = of.loras.iter().map(|lora| lora.name.clone()).collect();
    card.remote = Some(
        client
            .pool()
            .addresses()
            .iter()
            .map(|address| address.host.clone())
            .collect::<Vec<_>>()
            .join(","),
    );
    card.fingerprint = engine.version.clone();
    if found.constrains.is_some() {
        card.constrains = match found.constrains.as_deref() {
            Some("structured_outputs") => vec![Constraint::JsonSchema, Constraint::OneOf],
            _ => vec![Constraint::JsonSchema],
        };
    }
    let mut said = engine.card();
    said["capabilities"] = json!(found);
    said["choices"] = of.ways.first().map_or("off", |way| way.word()).into();
    said["prompts"] = if of.sent_as_ids { "token ids" } else { "messages" }.into();
    said["key"] = json!(client.key_source());
    said["weights"] = "served, not verified".into();
    card.other.insert("engine".to_owned(), said);
    Ok(card)
}

impl Model for OpenAi {
    fn card(&self) -> ModelCard {
        self.inner.card.clone()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        remote::reply(self.inner.as_ref(), prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        serve(&self.inner, jobs)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Result<PromptTokens> {
        self.inner.tokens(prompt)
    }

    fn replay(&mut self, request: &Value) -> Result<Value> {
        parity::trace(&self.inner, request)
    }

    fn commander(&self) -> Option<Commander> {
        let inner = self.inner.clone();
        Some(Arc::new(move |command, request| {
            inner.client.run_command(command, request)
        }))
    }
}
