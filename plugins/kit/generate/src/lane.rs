//! A text on its way through the model.

use super::feed::Feed;
use nn::{Input, KvCache};
use std::sync::Arc;

/// A prompt, what has been said to it, and how much of both the cache has.
///
/// What the cache lacks is what goes in next: a piece of the prompt, or the last token. So a lane whose cache is taken
/// away goes on where it was, once it has been read again.
#[derive(Default)]
pub struct Lane {
    pub input: Arc<Input>,
    pub spoken: Vec<u32>,
    pub cache: KvCache,
    /// How many tokens others share, whose cache is to be kept when it has come so far.
    pub keep_at: Option<usize>,
    /// It is not read yet, since another lane is reading what it can begin with.
    pub waits: bool,
    /// Tokens that were not read, as another lane had read them.
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

    /// Tokens that may go into the next pass: a beginning that is to be kept is read by itself.
    pub fn next(&self) -> usize {
        match self.keep_at {
            Some(tokens) => tokens - self.cache.len(),
            None => self.waiting(),
        }
    }

    /// Whether it has clips that must be heard before it is read. Those of a beginning that is in the cache need not
    /// be.
    pub fn is_unheard(&self) -> bool {
        self.input.unheard.is_some() && self.cache.len() < self.input.sounds_end()
    }

    /// Whether more than the last token is missing.
    pub fn is_reading(&self) -> bool {
        self.spoken.is_empty() || self.waiting() > 1
    }

    /// Gives its cache back; the text will be read again.
    pub fn forget(&mut self) {
        (self.cache, self.keep_at, self.reused) = (KvCache::default(), None, 0);
    }

    /// The same text once more, to go on in another way.
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

    /// Becomes a fork of another lane with the same prompt; only what differs is copied.
    pub fn follow(&mut self, other: &Lane) -> candle_core::Result<()> {
        let alike = |(a, b): &(&u32, &u32)| a == b;
        let common = self.spoken.iter().zip(&other.spoken).take_while(alike).count();
        self.cache.follow(&other.cache, self.input.tokens.len() + common)?;
        self.spoken.clone_from(&other.spoken);
        Ok(())
    }

    /// Puts the next tokens, at most this many as wait, into a pass.
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
