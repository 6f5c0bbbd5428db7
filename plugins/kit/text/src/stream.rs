//! Tokens to text, piece by piece.

use crate::{Result, Tokenizer};

/// The sign that stands for bytes which are no character, or not yet one.
const INCOMPLETE: char = '\u{fffd}';
/// Tokens that never become a character are given up on after this many, or each would be decoded again for ever.
const LONGEST_WAIT: usize = 64;

/// Turns tokens into text as they come, without ever splitting a character.
///
/// One token of what was said before is decoded along, since some decoders treat the first token of a text
/// differently from the others.
#[derive(Clone, Default)]
pub struct Detokenizer {
    tokens: Vec<u32>,
    /// The tokens before this index have been said in full.
    said_tokens: usize,
    /// Bytes of the decoded window that have been said.
    said_bytes: usize,
}

impl Detokenizer {
    /// The text that this token completes; often a word, sometimes nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = tokenizer.decode(&self.tokens)?;
        // At most one character at the end can still change: a decoder replaces each broken sequence by itself.
        let waiting = text.ends_with(INCOMPLETE) && self.tokens.len() - self.said_tokens < LONGEST_WAIT;
        let end = text.len() - if waiting { INCOMPLETE.len_utf8() } else { 0 };
        let new = text.get(self.said_bytes..end).unwrap_or_default().to_owned();
        self.said_bytes = self.said_bytes.max(end);
        if !waiting {
            self.tokens.drain(..self.tokens.len() - 1);
            self.said_tokens = 1;
            self.said_bytes = tokenizer.decode(&self.tokens)?.len();
        }
        Ok(new)
    }

    /// What is left at the end: the sign for a character that was never completed.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.tokens)?;
        let rest = text.get(self.said_bytes..).unwrap_or_default().to_owned();
        *self = Detokenizer::default();
        Ok(rest)
    }
}
