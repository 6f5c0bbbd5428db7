//! Greedy answers of a model whose logits are computed elsewhere, as while it learns.

use super::sampler::{Pick, Sampler, ban, greedy_knobs};
use super::{Defaults, Generator};
use nn::Decoder;
use plugin_api::Result;
use std::sync::Arc;
use text::{Chat, Detokenizer, Tokenizer};

/// What a greedy answer needs of a model besides its logits.
pub struct Greedy {
    chat: Arc<Chat>,
    defaults: Defaults,
}

impl Greedy {
    pub fn of<D: Decoder>(generator: &Generator<D>) -> Greedy {
        Greedy {
            chat: generator.chat.clone(),
            defaults: generator.defaults.clone(),
        }
    }

    /// Picks the tokens of one answer to a prompt, each by the logits behind the last token, as [`Generator::reply`] does
    /// at temperature 0 with the publisher's settings. None is the end.
    pub fn picker(&self, prompt: &[u32]) -> impl FnMut(&mut [f32]) -> Option<u32> + use<> {
        let penalty = self.defaults.repetition_penalty.unwrap_or(1.0);
        let mut sampler = Sampler::new(greedy_knobs(penalty), 0, prompt);
        let mut least = self.defaults.least(prompt.len());
        let stop = self.defaults.stop_tokens.clone();
        move |logits| {
            if least > 0 {
                ban(logits, &stop);
                least -= 1;
            }
            match sampler.pick(logits) {
                Pick::Token(token) => Some(token).filter(|token| !stop.contains(token)),
                Pick::Broken => None,
            }
        }
    }

    /// Whether a token ends an answer.
    pub fn ends(&self, token: u32) -> bool {
        self.defaults.stop_tokens.contains(&token)
    }

    /// The text of tokens, with special ones, or without them as an answer has it: bytes that are not valid UTF-8 are
    /// replaced as they come, and not when all are known.
    pub fn text(&self, tokens: &[u32], specials: bool) -> Result<String> {
        let tokenizer = self.chat.tokenizer();
        let text = match specials {
            true => tokenizer.decode_all(tokens),
            false => answer(tokenizer, tokens),
        };
        text.map_err(text::Error::into_plugin_error)
    }
}

fn answer(tokenizer: &Tokenizer, tokens: &[u32]) -> text::Result<String> {
    let (mut stream, mut text) = (Detokenizer::default(), String::new());
    for token in tokens {
        text.push_str(&stream.push(tokenizer, *token)?);
    }
    text.push_str(&stream.finish(tokenizer)?);
    Ok(text)
}
