//! A text on its way through the model: a sequence with its cache.

use super::feed::Feed;
use nn::{Input, KvCache};
use std::sync::Arc;

/// A prompt, the tokens generated so far, and how many of both are in the cache.
///
/// Tokens that are not in the cache go in next: a piece of the prompt, or the last token. So a lane whose cache is
/// taken away reads its text again and continues.
#[derive(Default)]
pub struct Lane {
    pub input: Arc<Input>,
    pub spoken: Vec<u32>,
    pub cache: KvCache,
    /// The length of a shared prefix, whose cache is to be kept when the lane has read that far.
    pub keep_at: Option<usize>,
    /// Whether it waits for another lane that reads a prefix which it shares.
    pub waits: bool,
    /// Tokens that were not read because another lane had read them.
    pub reused: usize,
}

impl Lane {
    pub fn new(input: Input) -> Lane {
        Lane {
            input: Arc::new(input),
            ..Lane::default()
        }
    }

    /// Tokens that are not in the cache yet.
    pub fn waiting(&self) -> usize {
        self.input.tokens.len() + self.spoken.len() - self.cache.len()
    }

    /// Tokens that may go into the next pass. A prefix that is to be kept is read separately.
    pub fn next(&self) -> usize {
        match self.keep_at {
            Some(tokens) => tokens - self.cache.len(),
            None => self.waiting(),
        }
    }

    /// Whether clips must be encoded before it can be read. Clips in a cached prefix need not be.
    pub fn is_unheard(&self) -> bool {
        self.input.unheard.is_some() && self.cache.len() < self.input.sounds_end()
    }

    /// Whether more than the last token has to be read.
    pub fn is_reading(&self) -> bool {
        self.spoken.is_empty() || self.waiting() > 1
    }

    /// Drops its cache; the text will be read again.
    pub fn forget(&mut self) {
        (self.cache, self.keep_at, self.reused) = (KvCache::default(), None, 0);
    }

    /// A copy of the text and its cache, to continue in another way.
    pub fn fork(&self) -> candle_core::Result<Lane> {
        Ok(Lane {
            input: self.input.clone(),
            spoken: self.spoken.clone(),
            cache: self.cache.fork()?,
            keep_at: None,
            waits: false,
            reused: self.reused,
        })
    }

    /// Becomes a fork of another lane with the same prompt, copying only what differs.
    pub fn follow(&mut self, other: &Lane) -> candle_core::Result<()> {
        let alike = |(a, b): &(&u32, &u32)| a == b;
        let common = self.spoken.iter().zip(&other.spoken).take_while(alike).count();
        self.cache.follow(&other.cache, self.input.tokens.len() + common)?;
        self.spoken.clone_from(&other.spoken);
        Ok(())
    }

    /// Puts the next tokens into a pass, at most as many as wait.
    pub fn feed(&self, feed: &mut Feed, tokens: usize) -> candle_core::Result<()> {
        let (prompt, start) = (self.input.tokens.len(), self.cache.len());
        let end = start + tokens;
        if start < prompt {
            feed.input(&self.input, start, end.min(prompt) - start)?;
        }
        let spoken = &self.spoken[start.max(prompt) - prompt..end.max(prompt) - prompt];
        feed.ids(spoken, &self.input.loras);
        Ok(())
    }
}
