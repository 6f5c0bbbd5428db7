//! Where a text falls apart into stretches whose tokens don't depend on each other, so that one that comes again is not
//! cut into tokens again.
//!
//! A sweep's prompts share all but their ends, and the options of each share all but the last word. The tokens are those of
//! the text as a whole: only tokenizers are known here of which that can be shown, and others cut every text as a whole.
//!
//! A seam is a blank between two ASCII letters. With the patterns below no piece reaches from a letter over a blank, and
//! none begins anywhere but at such a blank. Where merges are not held within words, no token may hold a blank behind
//! anything but blanks, so none reaches over a seam.

use crate::cuts::{DIGIT, GPT2, LLAMA3, QWEN2};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, TryLockError};
use tokenizers::{ModelWrapper, Tokenizer};

/// Shorter stretches are not worth looking up.
const LEAST: usize = 24;
/// The most stretches that are remembered: a few hundred kilobytes.
const MOST: usize = 4096;
/// What SentencePiece writes for a blank.
const BLANK: char = '▁';

/// The stretches of one tokenizer's texts.
pub(crate) struct Stretches {
    blank: SeamBlank,
    known: Mutex<HashMap<Box<str>, Box<[u32]>>>,
}

/// Where the blank of a seam goes.
#[derive(Clone, Copy, PartialEq, Debug)]
enum SeamBlank {
    /// To the stretch behind it.
    Kept,
    /// The tokenizer puts one in front of every text by itself.
    Dropped,
}

impl Stretches {
    /// None if a text of this tokenizer can't be shown to fall apart.
    pub fn of(tokenizer: &Tokenizer) -> Option<Stretches> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else {
            return None;
        };
        // A token of its own may not reach over a seam, nor care for what stands beside it.
        let holds_words = |token: &tokenizers::AddedToken| {
            let odd = token.single_word || token.lstrip || token.rstrip;
            let blank = |letter: char| letter.is_whitespace() || letter == BLANK;
            let letter = |letter: char| letter.is_ascii_alphabetic();
            let content = &token.content;
            odd || content.contains(blank) || content.starts_with(letter) || content.ends_with(letter)
        };
        if model.dropout.is_some() || tokenizer.get_added_tokens_decoder().values().any(holds_words) {
            return None;
        }
        let normalizer = steps(serde_json::to_value(tokenizer.get_normalizer()).ok()?, "normalizers");
        let words = steps(
            serde_json::to_value(tokenizer.get_pre_tokenizer()).ok()?,
            "pretokenizers",
        );
        let blank = if !words.is_empty() {
            let known = normalizer.iter().all(|step| step["type"] == "NFC") && words.iter().all(looks_no_further);
            let apart = words.iter().any(cuts_at_seams);
            (known && apart).then_some(SeamBlank::Kept)
        } else {
            let as_llama = normalizer
                == [
                    json!({ "type": "Prepend", "prepend": "▁" }),
                    json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }),
                ];
            let plain =
                !model.ignore_merges && model.continuing_subword_prefix.is_none() && model.end_of_word_suffix.is_none();
            let vocabulary = || tokenizer.get_vocab(false);
            (as_llama && plain && blanks_lead(vocabulary().keys())).then_some(SeamBlank::Dropped)
        };
        Some(Stretches {
            blank: blank?,
            known: Mutex::default(),
        })
    }

    /// The tokens of a text, by those of its stretches.
    pub fn encode(&self, text: &str, cut: impl Fn(&str) -> crate::Result<Vec<u32>>) -> crate::Result<Vec<u32>> {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            // What several threads cut at once is not looked up.
            Err(TryLockError::WouldBlock) => return cut(text),
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
        };
        let mut tokens = Vec::with_capacity(text.len() / 3);
        for stretch in self.apart(text) {
            if let Some(own) = known.get(stretch) {
                tokens.extend_from_slice(own);
                continue;
            }
            let own = cut(stretch)?;
            tokens.extend_from_slice(&own);
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(stretch.into(), own.into());
        }
        Ok(tokens)
    }

    fn apart<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let (bytes, mut stretches, mut start, mut at) = (text.as_bytes(), Vec::new(), 0, LEAST);
        while at + 1 < bytes.len() {
            let seam = bytes[at] == b' ' && bytes[at - 1].is_ascii_alphabetic() && bytes[at + 1].is_ascii_alphabetic();
            if seam {
                stretches.push(&text[start..at]);
                start = at + usize::from(self.blank == SeamBlank::Dropped);
                at += LEAST;
            }
            at += 1;
        }
        stretches.push(&text[start..]);
        stretches
    }
}

/// One step or several, of those that a tokenizer takes one after the other.
fn steps(all: Json, several: &str) -> Vec<Json> {
    match all {
        Json::Null => Vec::new(),
        mut all if all["type"] == "Sequence" => match all[several].take() {
            Json::Array(steps) => steps,
            other => vec![other],
        },
        one => vec![one],
    }
}

/// Whether a step that cuts a text into words does the same on both sides of a seam, whatever is on the other.
fn looks_no_further(step: &Json) -> bool {
    match step["type"].as_str() {
        Some("Digits") => true,
        Some("ByteLevel") => step["add_prefix_space"] == false,
        Some("Split") => {
            let known = [GPT2, QWEN2, LLAMA3, DIGIT].contains(&pattern(step));
            known && step["behavior"] == "Isolated" && step["invert"] == false
        }
        _ => false,
    }
}

/// Whether a piece begins at every seam.
fn cuts_at_seams(step: &Json) -> bool {
    step["use_regex"] == true || [GPT2, QWEN2, LLAMA3].contains(&pattern(step))
}

fn pattern(step: &Json) -> &str {
    step["pattern"]["Regex"].as_str().unwrap_or_default()
}

/// Whether there is a token for a blank, and blanks stand only at the beginning of tokens.
fn blanks_lead<'a>(tokens: impl Iterator<Item = &'a String>) -> bool {
    let mut alone = false;
    for token in tokens {
        let rest = token.trim_start_matches(BLANK);
        alone |= rest.is_empty() && token.chars().count() == 1;
        if rest.contains(BLANK) {
            return false;
        }
    }
    alone
}

#[cfg(test)]
mod tests;
