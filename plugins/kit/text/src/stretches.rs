//! Splits texts into stretches that can be tokenised independently, so that tokens of repeated stretches can be
//! cached.
//!
//! The prompts of a sweep share all but their ends, and the options of each share all but the last word. The tokens
//! equal those of the whole text: this is used only with tokenizers for which that can be proved.
//!
//! A seam is a blank between two ASCII letters. With the patterns below, no piece spans a letter and a following
//! blank, and a piece begins at every such blank. If merges are not confined to words, tokens may have blanks only at
//! their beginning, so none spans a seam.

use crate::cuts::{DIGIT, GPT2, LLAMA3, QWEN2};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, TryLockError};
use tokenizers::{ModelWrapper, Tokenizer};

/// Shorter stretches are not worth looking up.
const LEAST: usize = 24;
/// The most stretches in the cache: a few hundred kilobytes.
const MOST: usize = 4096;
/// SentencePiece's character for a blank.
const BLANK: char = '▁';

/// The cache of one tokenizer's stretches.
pub(crate) struct Stretches {
    blank: SeamBlank,
    known: Mutex<HashMap<Box<str>, Box<[u32]>>>,
}

/// What happens to the blank at a seam.
#[derive(Clone, Copy, PartialEq, Debug)]
enum SeamBlank {
    /// It belongs to the stretch after it.
    Kept,
    /// It is removed: the tokenizer adds one before every text.
    Dropped,
}

impl Stretches {
    /// None if it cannot be proved that texts of this tokenizer can be split.
    pub fn of(tokenizer: &Tokenizer) -> Option<Stretches> {
        let ModelWrapper::BPE(model) = tokenizer.get_model() else {
            return None;
        };
        // An added token must not span a seam or depend on its neighbours.
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

    /// The tokens of a text, stretch by stretch.
    pub fn encode(&self, text: &str, cut: impl Fn(&str) -> crate::Result<Vec<u32>>) -> crate::Result<Vec<u32>> {
        let mut known = match self.known.try_lock() {
            Ok(known) => known,
            // While another thread uses the cache, tokenise without it.
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

/// One step, or several in a sequence.
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

/// Whether a pre-tokenizer treats both sides of a seam independently.
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

/// Whether there is a token for a blank, and tokens have blanks only at their beginning.
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
