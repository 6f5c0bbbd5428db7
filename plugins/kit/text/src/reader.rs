//! Reads an answer while it is generated: separates reasoning from the answer, and ends at a stop string.

use crate::stream::Detokenizer;
use crate::{Result, Tokenizer};
use std::sync::Arc;

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// How an answer is to be read.
#[derive(Debug, Clone, Default)]
pub struct Reading {
    /// The model may reason first, between `<think>` and `</think>`.
    pub thinks: bool,
    /// The prompt already opened the reasoning.
    pub opened: bool,
    /// The answer ends before the first of these. They are not searched in reasoning.
    pub stop: Vec<String>,
}

/// A complete answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    pub text: String,
    pub thinking: Option<String>,
    pub thinking_tokens: usize,
}

#[derive(Clone)]
enum Where {
    /// Before it is known whether there is reasoning.
    Start,
    Thinking,
    /// After the reasoning, in the blank lines before the answer.
    Between,
    Answer,
}

/// Turns tokens into text. The returned pieces together are the answer's text.
#[derive(Clone)]
pub struct Reader {
    tokenizer: Arc<Tokenizer>,
    stream: Detokenizer,
    at: Where,
    reading: Reading,
    pending: String,
    answer: Answer,
    stopped: bool,
}

impl Reader {
    pub fn new(tokenizer: Arc<Tokenizer>, reading: Reading) -> Reader {
        let at = match (&reading.thinks, &reading.opened) {
            (true, true) => Where::Thinking,
            (true, false) => Where::Start,
            (false, _) => Where::Answer,
        };
        let answer = Answer::default();
        Reader {
            tokenizer,
            stream: Detokenizer::default(),
            at,
            reading,
            pending: String::new(),
            answer,
            stopped: false,
        }
    }

    /// A reader of another answer to the same prompt.
    pub fn fresh(&self) -> Reader {
        Reader::new(self.tokenizer.clone(), self.reading.clone())
    }

    /// Takes a token and returns the next certain piece of the answer.
    pub fn push(&mut self, token: u32) -> Result<String> {
        let text = self.stream.push(&self.tokenizer, token)?;
        self.pending.push_str(&text);
        let before = self.is_thinking();
        let piece = self.advance();
        if before || self.is_thinking() {
            self.answer.thinking_tokens += 1;
        }
        Ok(piece)
    }

    /// Whether a stop string was found.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// True inside the reasoning.
    pub fn is_thinking(&self) -> bool {
        matches!(self.at, Where::Thinking)
    }

    /// The last piece, and the whole answer.
    pub fn finish(mut self) -> Result<(String, Answer)> {
        let mut piece = String::new();
        if !self.stopped {
            let rest = self.stream.finish(&self.tokenizer)?;
            self.pending.push_str(&rest);
            piece = self.advance();
            let held = std::mem::take(&mut self.pending);
            match self.at {
                Where::Thinking => self.answer.thinking.get_or_insert_default().push_str(&held),
                Where::Start | Where::Answer => piece.push_str(&held),
                Where::Between => {}
            }
            if matches!(self.at, Where::Start | Where::Answer) {
                self.answer.text.push_str(&held);
            }
        }
        if let Some(thinking) = &mut self.answer.thinking {
            *thinking = thinking.trim_matches('\n').to_owned();
        }
        self.answer.thinking.take_if(|thinking| thinking.is_empty());
        Ok((piece, self.answer))
    }

    fn advance(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        if matches!(self.at, Where::Start) {
            let begun = self.pending.trim_start();
            if let Some(rest) = begun.strip_prefix(OPEN) {
                self.pending = rest.to_owned();
                self.at = Where::Thinking;
            } else if OPEN.starts_with(begun) {
                return String::new(); // nothing yet, or an incomplete tag
            } else {
                self.at = Where::Answer;
            }
        }
        if matches!(self.at, Where::Thinking) {
            let thinking = self.answer.thinking.get_or_insert_default();
            let Some((thought, rest)) = self.pending.split_once(CLOSE) else {
                let sure = self.pending.len() - overlap(&self.pending, CLOSE);
                thinking.extend(self.pending.drain(..sure));
                return String::new();
            };
            thinking.push_str(thought);
            self.pending = rest.to_owned();
            self.at = Where::Between;
        }
        if matches!(self.at, Where::Between) {
            self.pending = self.pending.trim_start_matches('\n').to_owned();
            if self.pending.is_empty() {
                return String::new();
            }
            self.at = Where::Answer;
        }
        let stop = &self.reading.stop;
        let ends = stop
            .iter()
            .filter(|stop| !stop.is_empty())
            .filter_map(|stop| self.pending.find(stop.as_str()));
        let sure = match ends.min() {
            Some(end) => {
                self.stopped = true;
                end
            }
            None => {
                let held = stop.iter().map(|stop| overlap(&self.pending, stop)).max().unwrap_or(0);
                self.pending.len() - held
            }
        };
        let piece: String = self.pending.drain(..sure).collect();
        self.answer.text.push_str(&piece);
        piece
    }
}

/// The length of the end of `text` that begins `word`, short of the whole word.
fn overlap(text: &str, word: &str) -> usize {
    let longest = word.len().saturating_sub(1).min(text.len());
    (1..=longest)
        .rev()
        .find(|&n| word.is_char_boundary(n) && text.ends_with(&word[..n]))
        .unwrap_or(0)
}
