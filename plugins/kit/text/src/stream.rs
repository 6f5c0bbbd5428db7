//! Decodes tokens to text, piece by piece.

use crate::{Result, Tokenizer};

/// The replacement character, for bytes that are not, or not yet, a character.
const INCOMPLETE: char = '\u{fffd}';
/// After this many tokens, tokens that never form a character are given up: otherwise all of them would be decoded
/// again for each new one.
const LONGEST_WAIT: usize = 64;

/// Turns tokens into text as they come, without ever splitting a character.
///
/// The last token of the earlier text is decoded again each time, since some decoders treat the first token of a text
/// differently.
#[derive(Clone, Default)]
pub struct Detokenizer {
    tokens: Vec<u32>,
    /// Tokens before this index have been returned completely.
    said_tokens: usize,
    /// Bytes of the decoded window that have been returned.
    said_bytes: usize,
}

impl Detokenizer {
    /// The text that this token completes; often a word, sometimes nothing.
    pub fn push(&mut self, tokenizer: &Tokenizer, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = tokenizer.decode(&self.tokens)?;
        // Only the last character can still change, since a decoder replaces each invalid sequence separately.
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

    /// The rest at the end: a replacement character if a character is incomplete.
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = tokenizer.decode(&self.tokens)?;
        let rest = text.get(self.said_bytes..).unwrap_or_default().to_owned();
        *self = Detokenizer::default();
        Ok(rest)
    }
}
