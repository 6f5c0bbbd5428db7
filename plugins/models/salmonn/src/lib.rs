//! SALMONN: two encoders hear a clip, Whisper's for speech and BEATs for all other sound; a Q-Former makes 88 vectors
//! of it, a third of a second each; and Vicuna, with a LoRA of its own, reads those between the words.
//!
//! The decision a newcomer would question: the four parts are read as they are published, pickled files among them,
//! instead of only from a folder that something converted. `host convert salmonn` makes such a folder; with `-M
//! quant=…` its language model lies there in blocks, and making those is most of what loading takes.

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
use model::{Checkpoint, Defaults, Generator, GeneratorModel, Limits, ModelHooks, Precision, register_generator};
use nn::dense::AudioLanguageModel;
use nn::{Loras, device};
use plugin_api::{Call, Code, Error, Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};
use serde_json::{Map, Value};
use text::{Chat, ChatTemplate, Pieces};

register_generator!("salmonn", "SALMONN: hears speech and all other sound, clips of up to 30 seconds", load, {
    weights: weights, "folder that holds all parts: with a salmonn_config.json that names them, or made by `host convert salmonn`";
    whisper: weights, "folder or hub id of the Whisper model whose encoder is used, openai/whisper-large-v2 for the published weights";
    beats: path, "file of BEATs, the fine-tuned BEATs_iter3+ (AS2M) for the published weights";
    vicuna: weights, "folder or hub id of the language model, Vicuna 13B v1.1 or 7B v1.5 for the published weights";
    salmonn: path, "file of what was trained between them, such as salmonn_v1.pth";
    max_tokens: integer = 200, "longest answer where the prompt sets none; as published";
    beams: integer = 4, "beams of the search for an answer where the prompt sets none; as published";
    load: flag = true, "whether to read the weights at once, or when they are first asked for; `host convert` asks for none";
});
register_estimate!("salmonn", estimate, training: |settings, plan, work| {
    let (files, precision) = open(settings)?;
    let (config, weights) = (&files.described["vicuna"], &files.vicuna_weights);
    let others = files.besides(&precision).0;
    model::training_memory::estimate_of_part(estimate(settings)?, config, weights, others, plan, work)
});
export_plugin!();

/// How a clip is spelled in a prompt, and where in it the sound is.
const CLIP: &str = "<Speech><SpeechHere></Speech> ";
const MARK: &str = "<SpeechHere>";
const TEMPLATE: &str = include_str!("chat.jinja");

/// The published limit of an answer's length, and the beams of the search for it.
const MAX_TOKENS: u32 = 200;
const BEAMS: u32 = 4;

struct Salmonn {
    settings: Settings,
    files: Files,
}

fn load(settings: &Settings) -> Result<GeneratorModel<AudioLanguageModel<TwoEars>>> {
    let (files, _) = open(settings)?;
    let card = ModelCard {
        longest_clip: Some(files.whisper.samples() as f64 / audio::RATE as f64),
        ..ModelCard::audio("salmonn", audio::RATE as u32)
    };
    let settings = settings.clone();
    let at_once = settings.or("load", true)?;
    let mut model = GeneratorModel::unread(Salmonn { settings, files }, card);
    if at_once {
        model.read()?;
    }
    Ok(model)
}

fn open(settings: &Settings) -> Result<(Files, Precision)> {
    let device = device::from_settings(settings)?;
    let precision = Precision::from_settings(settings, &device)?;
    Ok((Files::open(settings, &precision, &device)?, precision))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let (files, precision) = open(settings)?;
    Ok(files.memory_estimate(&precision, &Limits::from_settings(settings)?))
}

impl ModelHooks<AudioLanguageModel<TwoEars>> for Salmonn {
    fn read(&mut self, card: &mut ModelCard) -> Result<Generator<AudioLanguageModel<TwoEars>>> {
        let (settings, files) = (&self.settings, &self.files.for_reading());
        let (chat, end) = chat(files)?;
        // What the publisher of the language model wants of its own answers counts for nothing here. The published code
        // also asks for a `min_length` of 1, which never binds: the library counts a token in front of every answer.
        let defaults = Defaults {
            num_beams: Some(settings.or("beams", BEAMS)?),
            stop_tokens: vec![end],
            ..Defaults::default()
        };
        let mut checkpoint = Checkpoint::of(settings, files.words.clone(), defaults)?;
        checkpoint.limits.max_tokens = settings.or("max_tokens", MAX_TOKENS)?;
        checkpoint.read(|_| files.fitting(&checkpoint.precision))?;
        let decoder = checkpoint.read(|_| architecture::load(files))?;
        let own = checkpoint.read(|_| lora::factors(files))?;
        checkpoint.read(|_| Loras::of(&files.vicuna_weights).add(lora::NAME, own, true))?;
        checkpoint.generator(decoder, chat, &files.weights(), card)
    }

    fn learnt_weights(&self) -> Result<&'static str> {
        Ok(self.files.setting())
    }

    fn replay(&self, generator: &mut Generator<AudioLanguageModel<TwoEars>>, request: &Value) -> Result<Value> {
        parity::replay_recorded(generator, request)
    }

    fn run_command(&mut self, command: &str, request: &Value, call: &mut Call) -> Option<Result<Value>> {
        (command == "convert").then(|| convert::convert(&self.files, request, call))
    }
}

/// The language model's tokenizer with this model's prompts, and the end token.
fn chat(files: &Files) -> Result<(Chat, u32)> {
    let chat = Chat::from_folder(&files.words).map_err(text::Error::into_plugin_error)?;
    chat.tokenizer()
        .check_rows(files.vicuna.vocab_size)
        .map_err(text::Error::into_plugin_error)?;
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
