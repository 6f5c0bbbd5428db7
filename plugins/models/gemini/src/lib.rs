//! Gemini, and other models behind the same service: text and audio in, text out.
//!
//! What single models take and ignore is data ([`quirks`]), since it changes monthly. Two things that a newcomer would
//! question: thinking can't be switched off on the newer models, so a prompt that asks for none gets the least and a
//! flag in its record; and sampling settings that a model passes over are not sent, and listed in the card.

mod quirks;
mod reply;
mod request;

use plugin_api::{
    Call, Code, Commander, Constraint, Error, Jobs, Level, Model, ModelCard, Prompt, Reply, Result, Settings, Want,
    export_plugin, log, register_model,
};
use quirks::Quirks;
use remote::{Answerer, AudioFormat, Client, Common, Question, Spread, Stop, Watch, serve};
use request::Manner;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

register_model!("gemini", "Gemini and its siblings, over HTTP", load, {
    model: text required, "the model's name at the service";
    base_url: text = "https://generativelanguage.googleapis.com", "where the service is; several addresses are separated by commas";
    key_env: secret, "the variable that holds the key: GOOGLE_API_KEY, then GEMINI_API_KEY, if left out";
    key_file: path, "a file that holds the key and that nobody else can read";
    concurrency: text = "1-4-64", "calls under way: the first number, or least-first-most";
    rpm: number, "the most calls a minute";
    tpm: number, "the most tokens a minute";
    max_tokens: integer = 4096, "longest answer where a prompt sets none; reasoning counts, too";
    thinking: text ["off", "minimal", "low", "medium", "high"], "how much to reason where a prompt does not say";
    hears: text ["auto", "on", "off"] = "auto", "whether clips are sent";
    audio_format: text ["wav16", "wav32"] = "wav16", "how clips are written";
    longest_clip: number, "the longest clip that is sent, in seconds";
    safety: text ["OFF", "BLOCK_NONE", "BLOCK_ONLY_HIGH", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_LOW_AND_ABOVE"] = "BLOCK_NONE", "which answers the service's filters hold back";
    service_tier: text, "the service's tier, such as `flex`";
    tries: integer = 6, "attempts at a call that failed without being charged";
    resend: integer = 1, "attempts more at a call that may have been charged";
    patience: number = 300, "the longest wait, in seconds, that a service may ask for";
    first_pause: number = 1, "seconds before the second attempt; doubled each time";
    connect: number = 10, "seconds for a connection";
    silence: number = 120, "seconds without a byte";
    deadline: number = 300, "seconds for a whole call";
    wait_for_engine: number = 30, "seconds to wait for the service when it can't be reached at first";
    prices: path, "a TOML file of prices, laid over those that come with the program";
    quirks: path, "a TOML file of what models take, laid over the one that comes with the program";
    extra: text, "a JSON object laid over each request";
});
export_plugin!();

struct Gemini {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    model: String,
    manner: Manner,
    quirks: Quirks,
    card: ModelCard,
}

fn load(settings: &Settings) -> Result<Gemini> {
    let service = remote::Service {
        base: "https://generativelanguage.googleapis.com",
        path: "",
        keys: &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        spread: Spread::default(),
    };
    let mut common = Common::read(settings, service)?;
    for address in &mut common.addresses {
        if !address.base.ends_with("/v1beta") {
            address.base.push_str("/v1beta");
        }
    }
    for warning in &common.warnings {
        log(Level::Warning, warning);
    }
    let model = settings.need::<String>("model")?;
    let model = model.strip_prefix("models/").unwrap_or(&model).to_owned();
    if !model
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "-._".contains(letter))
    {
        return Err(Error::new(
            Code::SETTINGS,
            format!("setting `model` is `{model}`, which no model is called"),
        ));
    }
    let quirks = Quirks::of(&model, settings.get::<PathBuf>("quirks")?.as_deref())?;
    let manner = Manner {
        max_tokens: settings.or("max_tokens", 4096)?,
        thinking: settings.get::<String>("thinking")?.map(|level| level.to_uppercase()),
        safety: settings.get("safety")?,
        service_tier: settings.get("service_tier")?,
        extra: extra(settings)?,
        audio: AudioFormat::parse(&settings.or("audio_format", "wav16".to_owned())?)?,
    };
    let most = common.spread.max;
    let client = Client::new(Box::new(reply::Gemini), common);
    let described = describe(&client, &model)?;
    let mut card = match settings.or("hears", "auto".to_owned())?.as_str() {
        "off" => ModelCard::text(&model),
        _ => ModelCard::audio(&model, 16_000),
    };
    card.context = described["inputTokenLimit"]
        .as_u64()
        .and_then(|limit| u32::try_from(limit).ok());
    card.longest_clip = settings.get("longest_clip")?;
    card.thinks = quirks.can_rest();
    card.batch = most;
    card.concurrency = Some(most);
    card.remote = Some(client.pool().addresses()[0].host.clone());
    card.constrains = vec![Constraint::JsonSchema, Constraint::OneOf];
    let unpinned = model.ends_with("-latest") || model.contains("-preview");
    card.other.insert(
        "engine".to_owned(),
        json!({
            "kind": "gemini", "version": described["version"], "host": client.pool().addresses()[0].host, "key": client.key_source(),
            "unpinned": unpinned, "weights": "served, not verified", "prices_as_of": client.prices().as_of,
        }),
    );
    Ok(Gemini {
        inner: Arc::new(Inner {
            client,
            model,
            manner,
            quirks,
            card,
        }),
    })
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

/// The service's description of the model. A wrong key and an unknown name are found here, before any work.
fn describe(client: &Client, model: &str) -> Result<Value> {
    let say = |words: &str| {
        log(Level::Warning, &format!("waiting for the service: {words}"));
    };
    let (status, described, got) = client.look_patiently(0, &format!("/models/{model}"), &say)?;
    match status {
        200 => Ok(described),
        // If the service has no such listing, the answer to the first prompt decides.
        404 if described.get("error").is_none() => Ok(Value::Null),
        _ => match client.refusal(status, got.as_ref()) {
            Some(error) if status == 404 => Err(error.context(format!("no model `{model}`"))),
            Some(error) => Err(error),
            None => Ok(Value::Null),
        },
    }
}

impl Model for Gemini {
    fn card(&self) -> ModelCard {
        self.inner.card.clone()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        remote::reply(self.inner.as_ref(), prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        serve(&self.inner, jobs)
    }

    fn commander(&self) -> Option<Commander> {
        let inner = self.inner.clone();
        Some(Arc::new(move |command, request| {
            inner.client.run_command(command, request)
        }))
    }
}

impl Answerer for Inner {
    fn answer(&self, prompt: &Prompt, watch: &mut Watch<'_>) -> std::result::Result<Reply, Stop> {
        let request = request::request(prompt, &self.manner, &self.quirks)?;
        let sound: f64 = prompt.clips.iter().map(plugin_api::Clip::seconds).sum();
        let letters: usize = prompt.messages.iter().map(|message| message.joined_text().len()).sum();
        let question = Question {
            path: format!("/models/{}:generateContent", self.model),
            root: false,
            model: self.model.clone(),
            repeat: remote::repeat_of(prompt),
            beginning: String::new(),
            // No text has more than three letters a token, and a second of sound is 32 tokens.
            most_read: (letters as u64).div_ceil(3) + (sound * 32.0).ceil() as u64 + 64,
            most_written: u64::from(request.max_tokens),
            body: request.body,
        };
        let answer = self.client.ask(&question, watch)?;
        let stops = match &prompt.want {
            Want::Text { sampling } => sampling.stop.as_slice(),
            _ => &[],
        };
        let mut reply = reply::reply(&answer, stops);
        reply.flags.extend(request.flags);
        if !request.ignored.is_empty() {
            reply
                .other
                .insert("sampling_ignored".to_owned(), json!(request.ignored));
        }
        reply.usage.clip_seconds = sound;
        reply.other.insert(
            "sent_hash".to_owned(),
            remote::sha256_hex(question.body.to_string().as_bytes()).into(),
        );
        if reply
            .model_version
            .as_deref()
            .is_some_and(|version| version != self.model && !self.model.ends_with("-latest"))
        {
            reply.flags.push("moved-model".to_owned());
        }
        Ok(reply)
    }

    fn allowed(&self) -> usize {
        self.client.pool().allowed()
    }
}
