//! The interface of a language model for the generator, and the input that it takes.

use crate::{LoraSet, Step};
use audio::LogMel;
use candle_core::{Device, Tensor};
use plugin_api::{Clip, Code, Error, Part, Prompt, Result};
use std::ops::{Range, RangeInclusive};

/// A stack of layers between an embedding and an output layer.
///
/// A model that takes audio also has a [`Decoder::placeholder`] and [encodes clips](Decoder::encode_audio).
pub trait Decoder: Send + Sync {
    /// Token ids (tokens) to vectors (tokens, hidden).
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor>;

    /// Vectors (tokens, hidden) through all layers and the last norm.
    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor>;

    /// Hidden vectors (tokens, hidden) to logits (tokens, vocabulary). Called only for positions that are needed.
    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor>;

    fn device(&self) -> &Device;

    /// The longest text, prompt and answer together, in tokens.
    fn context(&self) -> usize;

    /// Its layers as plain data, if that describes them completely.
    fn blueprint(&self) -> Option<crate::Blueprint> {
        None
    }

    /// The token that a chat template writes once for each clip.
    fn placeholder(&self) -> Option<u32> {
        None
    }

    /// Divides clips into chunks that are encoded independently. Cheap: the number of tokens of a chunk follows from
    /// its length.
    fn audio_chunks(&self, _clips: &[&Clip]) -> Result<AudioChunks> {
        Err(deaf())
    }

    /// Encodes the samples of some chunks, from any clips and prompts.
    fn encode_audio(&self, _sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>> {
        Err(deaf())
    }

    /// Refuses a prompt with a part that the model does not support.
    fn check(&self, prompt: &Prompt) -> Result<()> {
        match clips(prompt)?.is_empty() || self.placeholder().is_some() {
            true => Ok(()),
            false => Err(deaf()),
        }
    }

    /// The model's input for a prompt with these tokens; its clips are still [to be encoded](Input::encode_audio).
    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        Input::of(self, prompt, tokens)
    }
}

fn deaf() -> Error {
    Error::unsupported("this model takes text only, and the prompt has a clip")
}

/// The clips of a prompt, in the order of its parts.
pub fn clips(prompt: &Prompt) -> Result<Vec<&Clip>> {
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

/// A part of a clip that is encoded independently.
#[derive(Debug, Clone, PartialEq)]
pub struct AudioChunk {
    /// The clip's number, and the range of its samples.
    pub clip: usize,
    pub samples: Range<usize>,
    /// How many vectors it becomes.
    pub tokens: usize,
}

/// The chunks of some clips.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AudioChunks {
    /// Clip after clip, each from its beginning.
    pub each: Vec<AudioChunk>,
    /// Seconds of all chunks together.
    pub seconds: f64,
    /// Flags for the reply.
    pub flags: Vec<String>,
}

impl AudioChunks {
    /// Divides clips into windows. Clips shorter or longer than these limits are refused or cut; `tokens` gives the
    /// tokens of a number of samples.
    pub fn cut(
        clips: &[&Clip],
        samples: RangeInclusive<usize>,
        window: usize,
        tokens: impl Fn(usize) -> usize,
    ) -> Result<AudioChunks> {
        let sounds = audio::sounds(clips, samples)?;
        let windows = |(clip, samples): (usize, &&[f32])| {
            let all = samples.len();
            let piece = move |start: usize| start..all.min(start + window);
            (0..all)
                .step_by(window.max(1))
                .map(move |start| (clip, piece(start)))
                .collect::<Vec<_>>()
        };
        let each = sounds.each.iter().enumerate().flat_map(windows);
        Ok(AudioChunks {
            each: each
                .map(|(clip, samples)| AudioChunk {
                    clip,
                    tokens: tokens(samples.len()),
                    samples,
                })
                .collect(),
            seconds: sounds.seconds,
            flags: sounds.flags,
        })
    }
}

/// An encoded chunk.
#[derive(Debug, Clone)]
pub struct AudioEmbeds {
    pub features: LogMel,
    /// (tokens, hidden), in place of as many placeholders.
    pub vectors: Tensor,
}

/// A clip among a prompt's tokens.
#[derive(Debug, Clone)]
pub struct Sound {
    /// The range of its tokens.
    pub tokens: Range<usize>,
    pub clip: Clip,
}

impl PartialEq for Sound {
    fn eq(&self, other: &Sound) -> bool {
        self.tokens == other.tokens && is_same_clip(&self.clip, &other.clip)
    }
}

/// Whether two clips are equal; immediate if they share their samples.
pub fn is_same_clip(a: &Clip, b: &Clip) -> bool {
    (a.rate, a.channels) == (b.rate, b.channels)
        && (std::ptr::eq(a.samples(), b.samples()) || a.samples() == b.samples())
}

/// How many tokens two prompts have in common from the start: the same tokens, and the same clips in the places of
/// clips.
pub fn common_beginning(a: (&[u32], &[Sound]), b: (&[u32], &[Sound])) -> usize {
    let alike = a.0.iter().zip(b.0).take_while(|(a, b)| a == b).count();
    let starts = |sound: &&Sound| sound.tokens.start < alike;
    let (mut own, mut other) = (a.1.iter().take_while(starts), b.1.iter().take_while(starts));
    loop {
        match (own.next(), other.next()) {
            (None, None) => return alike,
            (Some(a), Some(b)) if a == b => {}
            (Some(one), _) | (None, Some(one)) => return alike.min(one.tokens.start),
        }
    }
}

/// The input of a model for one prompt.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// All tokens, including placeholders of clips.
    pub tokens: Vec<u32>,
    /// Vectors (tokens, hidden) that replace the embedded tokens.
    pub embedded: Option<Tensor>,
    /// Clips that must be encoded before the vectors are known.
    pub unheard: Option<PendingAudio>,
    /// The clips among the tokens, in order.
    pub sounds: Vec<Sound>,
    pub clip_tokens: usize,
    pub clip_seconds: f64,
    /// Flags for the reply.
    pub flags: Vec<String>,
    /// The LoRAs of this prompt, chosen by the generator.
    pub loras: LoraSet,
}

impl Input {
    pub fn text(tokens: Vec<u32>) -> Input {
        Input {
            tokens,
            ..Input::default()
        }
    }

    /// A prompt's tokens, with a placeholder for each vector of a clip, and its clips.
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
            return Err(Error::new(Code::DATA, message).help(
                "some models take one clip for each message, and text must not contain the placeholder of a clip",
            ));
        }
        let pieces = decoder.audio_chunks(&clips)?;
        let mut input = Input {
            clip_tokens: pieces.each.iter().map(|piece| piece.tokens).sum(),
            clip_seconds: pieces.seconds,
            flags: pieces.flags,
            ..Input::default()
        };
        let mut number = 0;
        for token in tokens {
            let mut count = 1;
            if token == placeholder {
                let own = pieces.each.iter().filter(|piece| piece.clip == number);
                count = own.map(|piece| piece.tokens).sum();
                let start = input.tokens.len();
                input.sounds.extend(clips.get(number).map(|clip| Sound {
                    tokens: start..start + count,
                    clip: (*clip).clone(),
                }));
                number += 1;
            }
            input.tokens.extend(std::iter::repeat_n(token, count));
        }
        input.unheard = Some(PendingAudio {
            placeholder,
            clips: clips.into_iter().cloned().collect(),
            pieces: pieces.each,
            vectors: Vec::new(),
        });
        Ok(input)
    }

    /// Whether there is sound among the words.
    pub fn has_clips(&self) -> bool {
        self.embedded.is_some() || self.unheard.is_some()
    }

    /// Shares the samples of equal known clips, so that comparing them again is immediate.
    pub fn share_clips<'a>(&mut self, known: impl Iterator<Item = &'a Sound> + Clone) {
        for (number, sound) in self.sounds.iter_mut().enumerate() {
            if let Some(known) = known.clone().find(|known| is_same_clip(&known.clip, &sound.clip)) {
                sound.clip = known.clip.clone();
                if let Some(clip) = self.unheard.as_mut().and_then(|unheard| unheard.clips.get_mut(number)) {
                    *clip = known.clip.clone();
                }
            }
        }
    }

    /// The end of the last clip in tokens; 0 without clips.
    pub fn sounds_end(&self) -> usize {
        self.sounds.last().map_or(0, |sound| sound.tokens.end)
    }

    /// How many tokens it has in common with another prompt from the start.
    pub fn common(&self, other: &Input) -> usize {
        common_beginning((&self.tokens, &self.sounds), (&other.tokens, &other.sounds))
    }

    /// The same with all its clips encoded.
    pub fn heard<D: Decoder + ?Sized>(mut self, decoder: &D) -> Result<Input> {
        if let Some(unheard) = &self.unheard {
            let heard = decoder.encode_audio(&unheard.next(usize::MAX))?;
            self.take(decoder, heard.into_iter().map(|heard| heard.vectors).collect())?;
        }
        Ok(self)
    }

    /// Takes the vectors of the next chunks.
    pub fn take<D: Decoder + ?Sized>(&mut self, decoder: &D, heard: Vec<Tensor>) -> Result<()> {
        let Some(unheard) = &mut self.unheard else {
            return Ok(());
        };
        for vectors in heard {
            let (got, piece) = (vectors.dim(0)?, unheard.pieces.get(unheard.vectors.len()));
            let expected = piece.map_or(0, |piece| piece.tokens);
            if got != expected {
                let message = format!("a piece of a clip became {got} tokens, expected {expected}");
                return Err(Error::new(Code::OTHER, message));
            }
            unheard.vectors.push(vectors);
        }
        if unheard.vectors.len() < unheard.pieces.len() {
            return Ok(());
        }
        let words = decoder.embed(&Tensor::new(self.tokens.as_slice(), decoder.device())?)?;
        let (mut rows, mut start, mut sounds) = (Vec::new(), 0, unheard.vectors.iter());
        for run in self
            .tokens
            .chunk_by(|a, b| (*a == unheard.placeholder) == (*b == unheard.placeholder))
        {
            if run[0] != unheard.placeholder {
                rows.push(words.narrow(0, start, run.len())?);
            } else {
                let mut left = run.len();
                while left > 0
                    && let Some(sound) = sounds.next()
                {
                    left -= sound.dim(0)?;
                    rows.extend((sound.dim(0)? > 0).then(|| sound.to_dtype(words.dtype())).transpose()?);
                }
            }
            start += run.len();
        }
        self.embedded = Some(Tensor::cat(&rows, 0)?);
        self.unheard = None;
        Ok(())
    }
}

/// Clips of a prompt that are being encoded, chunk after chunk.
#[derive(Debug, Clone)]
pub struct PendingAudio {
    placeholder: u32,
    clips: Vec<Clip>,
    pieces: Vec<AudioChunk>,
    /// The vectors of the encoded chunks.
    vectors: Vec<Tensor>,
}

impl PendingAudio {
    /// The chunks that are not encoded yet: clip and range of samples.
    pub fn coming(&self) -> impl Iterator<Item = (&Clip, &Range<usize>)> {
        let rest = self.pieces.iter().skip(self.vectors.len());
        rest.map(|piece| (&self.clips[piece.clip], &piece.samples))
    }

    /// The samples of the next chunks, up to this many in total, and at least one chunk.
    pub fn next(&self, samples: usize) -> Vec<&[f32]> {
        let mut all = 0;
        let rest = self.pieces.iter().skip(self.vectors.len()).enumerate();
        rest.take_while(|(number, piece)| {
            all += piece.samples.len();
            *number == 0 || all <= samples
        })
        .map(|(_, piece)| &self.clips[piece.clip].samples()[piece.samples.clone()])
        .collect()
    }
}
