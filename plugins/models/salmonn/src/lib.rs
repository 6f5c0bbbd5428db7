//! SALMONN: two encoders hear a clip, Whisper's for speech and BEATs for all other sound; a Q-Former makes 88 vectors of
//! it, a third of a second each; and Vicuna, with a LoRA of its own, reads those between the words.
//!
//! The decision a newcomer would question: the four parts are read as they are published, pickled files among them,
//! instead of only from a folder that something converted. `host convert salmonn` makes such a folder; it is smaller.

pub mod architecture; // the parts, in the order a clip meets them
mod beats; // the encoder of sounds that are no speech
mod config; // the parts' own settings
mod connector; // the Q-Former
mod convert; // into one folder of safetensors
mod files; // the four downloads
mod lora; // the language model's LoRA
mod parity; // what a reference recorded, replayed

use architecture::{PLACEHOLDER, TwoEars};
use files::Files;
use nn::llama::Hearing;
use nn::{Defaults, Generator, Limits, Precision, device};
use plugin_api::{
    Call, Code, Error, Estimate, Jobs, Memory, Model, ModelCard, Prompt, PromptTokens, Reply, Result, Settings,
    export_plugin, register_estimate, register_model,
};
use serde_json::{Map, Value};
use text::{Chat, ChatTemplate, Pieces};

register_model!("salmonn", "SALMONN: hears speech and all other sound, clips of up to 30 seconds", Salmonn::load, {
    weights: weights, "folder that holds all parts: with a salmonn_config.json that names them, or made by `host convert salmonn`";
    whisper: weights, "folder or hub id of the Whisper model whose encoder is used, openai/whisper-large-v2 for the published weights";
    beats: path, "file of BEATs, the fine-tuned BEATs_iter3+ (AS2M) for the published weights";
    vicuna: weights, "folder or hub id of the language model, Vicuna 13B v1.1 or 7B v1.5 for the published weights";
    salmonn: path, "file of what was trained between them, such as salmonn_v1.pth";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type for the language model to compute in, the encoders keep fp32; auto is fp32 on a CPU, and bf16 on a GPU that has it";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what the language model's matrices are stored as; its token table is q8_0 in any case";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
    prefix_mb: integer = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
    max_tokens: integer = 200, "longest answer where the prompt sets none; as published";
    load: flag = true, "whether to read the weights at once, or when they are first asked for; `host convert` asks for none";
    beams: integer = 4, "beams of the search for an answer where the prompt sets none; as published";
});
register_estimate!("salmonn", Salmonn::estimate);
export_plugin!();

/// How a clip stands in a prompt, and where in that the sound goes.
const CLIP: &str = "<Speech><SpeechHere></Speech> ";
const MARK: &str = "<SpeechHere>";
const TEMPLATE: &str = include_str!("chat.jinja");

struct Salmonn {
    files: Files,
    precision: Precision,
    limits: Limits,
    beams: u32,
    generator: Option<Generator<Hearing<TwoEars>>>,
    card: ModelCard,
}

impl Salmonn {
    fn load(settings: &Settings) -> Result<Salmonn> {
        let device = device::from_settings(settings)?;
        let precision = Precision::from_settings(settings, &device)?;
        let files = Files::open(settings, &precision, &device)?;
        let limits = limits(settings)?;
        let card = ModelCard {
            context: u32::try_from(files.vicuna.max_position_embeddings).ok(),
            batch: limits.rows as u32,
            device: Some(device::name(&device)),
            longest_clip: Some(files.whisper.samples() as f64 / audio::RATE as f64),
            ..ModelCard::audio("salmonn", audio::RATE as u32).with_choices()
        };
        let mut model = Salmonn {
            files,
            precision,
            limits,
            beams: settings.or("beams", 4)?,
            generator: None,
            card,
        };
        if settings.or("load", true)? {
            model.generator()?;
        }
        Ok(model)
    }

    fn estimate(settings: &Settings) -> Result<Estimate> {
        let device = device::from_settings(settings)?;
        let precision = Precision::from_settings(settings, &device)?;
        let files = Files::open(settings, &precision, &device)?;
        Ok(files.foretold(&precision, &limits(settings)?))
    }

    fn generator(&mut self) -> Result<&mut Generator<Hearing<TwoEars>>> {
        let generator = match self.generator.take() {
            Some(generator) => generator,
            None => self.make()?,
        };
        Ok(self.generator.insert(generator))
    }

    fn make(&mut self) -> Result<Generator<Hearing<TwoEars>>> {
        let files = &self.files;
        files.fitting(&self.precision).map_err(nn::Error::told)?;
        let (chat, end) = chat(files)?;
        // What the publisher of the language model wants of its own answers counts for nothing here.
        let defaults = Defaults {
            num_beams: Some(self.beams),
            stop_tokens: vec![end],
            ..Defaults::default()
        };
        let decoder = architecture::load(files).map_err(nn::Error::told)?;
        let loras = files.vicuna_weights.loras();
        let own = lora::factors(files).map_err(nn::Error::told)?;
        loras.add(lora::NAME, own, true).map_err(nn::Error::told)?;
        let (bytes, values) = files.loaded();
        self.card.parameters = Some(values);
        self.card.precision = Some(files.vicuna_weights.precision());
        Ok(Generator::new(decoder, chat, defaults, self.limits, bytes).with_loras(loras))
    }
}

fn limits(settings: &Settings) -> Result<Limits> {
    Ok(Limits {
        max_tokens: settings.or("max_tokens", 200)?,
        ..Limits::from_settings(settings)?
    })
}

/// The tokenizer of the language model with the prompts of this one, and the token that ends an answer.
fn chat(files: &Files) -> Result<(Chat, u32)> {
    let chat = Chat::from_folder(&files.words).map_err(text::Error::told)?;
    chat.tokenizer()
        .check_rows(files.vicuna.vocab_size)
        .map_err(text::Error::told)?;
    let id = |piece: &str| {
        chat.tokenizer().id(piece).ok_or_else(|| {
            Error::new(
                Code::DATA,
                format!("the tokenizer in `{}` has no `{piece}`", files.words.display()),
            )
            .help("take the files of the Vicuna checkpoint that the published weights were trained on")
        })
    };
    let (first, end) = (id("<s>")?, id("</s>")?);
    let prompt = &files.published.prompt_template;
    let Some((before, after)) = prompt.split_once("{}") else {
        return Err(Error::new(
            Code::DATA,
            format!("`prompt_template` is `{prompt}`, expected a text with `{{}}` in it"),
        ));
    };
    let words = [("before", before), ("after", after), ("clip", CLIP), ("end", "</s>")];
    let words: Map<String, Value> = words
        .map(|(name, text)| (name.to_owned(), text.into()))
        .into_iter()
        .collect();
    let template = ChatTemplate::new(TEMPLATE.to_owned(), words).map_err(|why| Error::new(Code::OTHER, why))?;
    let pieces = Pieces {
        mark: MARK.to_owned(),
        clip: PLACEHOLDER,
        first,
    };
    Ok((chat.with_template(template).with_pieces(pieces), end))
}

impl Model for Salmonn {
    fn card(&self) -> ModelCard {
        self.card.clone()
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        self.generator()?.reply(prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        self.generator()?.serve(jobs)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Result<PromptTokens> {
        self.generator()?.tokens(prompt)
    }

    fn memory(&self) -> Memory {
        self.generator.as_ref().map(Generator::memory).unwrap_or_default()
    }

    fn trace(&mut self, request: &Value) -> Result<Value> {
        parity::trace(self.generator()?, request)
    }

    fn work(&mut self, verb: &str, request: &Value, call: &mut Call) -> Result<Value> {
        match verb {
            "convert" => convert::convert(&self.files, request, call),
            _ => Err(Error::unsupported(format!("this model can't do `{verb}`"))),
        }
    }
}
