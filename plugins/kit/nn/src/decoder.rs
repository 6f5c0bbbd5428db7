//! What a language model is to the generator, and how a prompt goes into it.

use crate::{LoraSet, Step};
use audio::LogMel;
use candle_core::{Device, Tensor};
use plugin_api::{Clip, Code, Error, Part, Prompt, Result};

/// A stack of layers with an embedding in front and an output layer behind.
///
/// A model that hears also has a [`Decoder::placeholder`] and says what it [hears](Decoder::hear).
pub trait Decoder: Send {
    /// Token ids (tokens) to vectors (tokens, hidden).
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor>;

    /// Vectors (tokens, hidden) through all layers and the last norm.
    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor>;

    /// Hidden vectors (tokens, hidden) to logits (tokens, vocabulary). Asked for only where they are needed.
    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor>;

    fn device(&self) -> &Device;

    /// The longest text, prompt and answer together, in tokens.
    fn context(&self) -> usize;

    /// The token that a chat template writes for a clip, once each.
    fn placeholder(&self) -> Option<u32> {
        None
    }

    /// What takes the clips' place, for these clips in the order of the prompt.
    fn hear(&self, _clips: &[&Clip]) -> Result<Heard> {
        Err(deaf())
    }

    /// Refuses a prompt with a part that the model cannot read.
    fn check(&self, prompt: &Prompt) -> Result<()> {
        match clips(prompt)?.is_empty() || self.placeholder().is_some() {
            true => Ok(()),
            false => Err(deaf()),
        }
    }

    /// What goes into the model for a prompt whose text has these tokens.
    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        Input::of(self, prompt, tokens)
    }
}

fn deaf() -> Error {
    Error::unsupported("this model reads text alone, the prompt holds a clip")
}

/// The clips of a prompt, in the order of its parts.
pub(crate) fn clips(prompt: &Prompt) -> Result<Vec<&Clip>> {
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let numbers = parts.filter_map(|part| match part {
        Part::Clip { clip, .. } => Some(*clip),
        _ => None,
    });
    numbers
        .map(|number| {
            prompt.clips.get(number).ok_or_else(|| {
                let message = format!("the prompt names clip {number}, but brings {}", prompt.clips.len());
                Error::new(Code::DATA, message)
            })
        })
        .collect()
}

/// What a model makes of clips.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Features of each piece that the encoder takes by itself.
    pub features: Vec<LogMel>,
    /// For each clip, the vectors (tokens, hidden) that go in instead of its placeholder.
    pub clips: Vec<Tensor>,
    /// Seconds heard, of all clips together.
    pub seconds: f64,
    /// What a reply should say of it.
    pub flags: Vec<String>,
}

/// A prompt as it goes into a model.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// All tokens, placeholders of clips included.
    pub tokens: Vec<u32>,
    /// Vectors (tokens, hidden) that go in instead of the embedded tokens.
    pub embedded: Option<Tensor>,
    pub clip_tokens: usize,
    pub clip_seconds: f64,
    /// What the reply says of the prompt.
    pub flags: Vec<String>,
    /// The LoRAs that it goes through; the generator knows.
    pub loras: LoraSet,
}

impl Input {
    pub fn text(tokens: Vec<u32>) -> Input {
        Input {
            tokens,
            ..Input::default()
        }
    }

    /// A prompt's tokens, and what the decoder hears in the places of its clips.
    pub fn of<D: Decoder + ?Sized>(decoder: &D, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        let clips = clips(prompt)?;
        let Some(placeholder) = decoder.placeholder().filter(|_| !clips.is_empty()) else {
            return Ok(Input::text(tokens));
        };
        let places = tokens.iter().filter(|&&token| token == placeholder).count();
        if places != clips.len() {
            let message = format!(
                "the prompt has {} clips, its text as the chat template renders it has {places} places for one",
                clips.len()
            );
            return Err(Error::new(Code::DATA, message)
                .help("some models take one clip a message, and words must not spell the place of a clip"));
        }
        let heard = decoder.hear(&clips)?;
        Ok(Input::with_clips(decoder, &tokens, placeholder, heard)?)
    }

    /// Tokens in which each placeholder gives way to a clip: as a token to as many of them, as a vector to what was heard.
    pub fn with_clips<D: Decoder + ?Sized>(
        decoder: &D,
        tokens: &[u32],
        placeholder: u32,
        heard: Heard,
    ) -> candle_core::Result<Input> {
        let ids = Tensor::new(tokens, decoder.device())?;
        let words = decoder.embed(&ids)?;
        let mut input = Input {
            clip_seconds: heard.seconds,
            flags: heard.flags,
            ..Input::default()
        };
        let (mut pieces, mut start) = (Vec::new(), 0);
        let places = (0..tokens.len()).filter(|&place| tokens[place] == placeholder);
        for (place, clip) in places.zip(&heard.clips) {
            let count = clip.dim(0)?;
            pieces.extend([words.narrow(0, start, place - start)?, clip.to_dtype(words.dtype())?]);
            input.tokens.extend_from_slice(&tokens[start..place]);
            input.tokens.extend(std::iter::repeat_n(placeholder, count));
            input.clip_tokens += count;
            start = place + 1;
        }
        pieces.push(words.narrow(0, start, tokens.len() - start)?);
        input.tokens.extend_from_slice(&tokens[start..]);
        pieces.retain(|piece| piece.elem_count() > 0);
        input.embedded = Some(Tensor::cat(&pieces, 0)?);
        Ok(input)
    }
}
