//! `tokenizer.json`, read with the `tokenizers` crate; without it, `tokenizer.model` or the tokenizer of a GGUF file.

use crate::stretches::Stretches;
use crate::{Error, Result, sentencepiece};
use serde_json::json;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A checkpoint's tokenizer.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    special: HashSet<u32>,
    /// None if every text is tokenised as a whole.
    stretches: Option<Stretches>,
}

impl Tokenizer {
    pub fn from_folder(folder: &Path) -> Result<Tokenizer> {
        let (path, own) = (folder.join("tokenizer.json"), folder.join("tokenizer.model"));
        if !path.is_file() && own.is_file() {
            return Tokenizer::from_sentencepiece(folder, own);
        }
        let bytes = read(&path)?;
        Tokenizer::from_json(&bytes, path)
    }

    fn from_sentencepiece(folder: &Path, path: PathBuf) -> Result<Tokenizer> {
        let bytes = read(&path)?;
        // The file does not say whether a text begins with a special token; in Llama's classes it does.
        let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        let with_first = config["add_bos_token"].as_bool().unwrap_or(true);
        let json = sentencepiece::tokenizer_json(&bytes, with_first).map_err(|reason| Error::Malformed {
            path: path.clone(),
            reason,
        })?;
        Tokenizer::from_json(json.to_string().as_bytes(), path)
    }

    /// One token for each byte, and one for each letter with a blank before it, as in most tokenizers.
    pub fn of_bytes() -> Result<Tokenizer> {
        let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
        let blank = 'Ġ'; // its character in byte-level vocabularies
        let pairs = || ('A'..='Z').chain('a'..='z');
        let words = bytes
            .into_iter()
            .map(String::from)
            .chain(pairs().map(|letter| format!("{blank}{letter}")));
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            words.enumerate().map(|(id, word)| (word, id.into())).collect();
        let merges: Vec<String> = pairs().map(|letter| format!("{blank} {letter}")).collect();
        let file = json!({
            "version": "1.0",
            "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            "model": { "type": "BPE", "vocab": vocabulary, "merges": merges },
        });
        Tokenizer::from_json(file.to_string().as_bytes(), "bytes".into())
    }

    /// Parses the format of `tokenizer.json`.
    pub(crate) fn from_json(bytes: &[u8], path: PathBuf) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        // A file may contain its author's truncation and padding, which prompts must not have.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| Error::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        let added = inner.get_added_tokens_decoder();
        let special = added
            .into_iter()
            .filter(|(_, token)| token.special)
            .map(|(id, _)| id)
            .collect();
        Ok(Tokenizer {
            stretches: Stretches::of(&inner),
            inner,
            path,
            special,
        })
    }

    /// Refuses a tokenizer with tokens that the embedding table has no row for.
    pub fn check_rows(&self, rows: usize) -> Result<()> {
        self.check_highest(rows, |_| true)
    }

    /// The same for all tokens except special ones.
    pub(crate) fn check_rows_of_words(&self, rows: usize) -> Result<()> {
        self.check_highest(rows, |token| !self.is_special(token))
    }

    fn check_highest(&self, rows: usize, counts: impl Fn(u32) -> bool) -> Result<()> {
        match self
            .inner
            .get_vocab(true)
            .into_values()
            .filter(|&token| counts(token))
            .max()
        {
            Some(highest) if highest as usize >= rows => Err(Error::VocabularyTooLarge {
                tokenizer: self.path.clone(),
                highest,
                rows,
            }),
            _ => Ok(()),
        }
    }

    /// Tokens of a text that already contains its special tokens, such as a rendered chat template.
    ///
    /// Without the post-processor, which would add a second token at the beginning.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.stretches {
            Some(stretches) => stretches.encode(text, |stretch| self.encode_with(stretch, false)),
            None => self.encode_with(text, false),
        }
    }

    /// Tokens of a plain text, with what the post-processor adds.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(text, true)
    }

    fn encode_with(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, add_special_tokens)
            .map_err(|e| Error::Encode { reason: e.to_string() })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens with their ranges of bytes in the text.
    pub fn encode_with_places(&self, text: &str, bare: bool) -> Result<Vec<(u32, std::ops::Range<usize>)>> {
        let encoding = self
            .inner
            .encode(text, bare)
            .map_err(|e| Error::Encode { reason: e.to_string() })?;
        let places = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// The text of tokens, including special ones.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, false)
            .map_err(|e| Error::Decode { reason: e.to_string() })
    }

    /// The text of tokens, without special ones.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, true)
            .map_err(|e| Error::Decode { reason: e.to_string() })
    }

    /// The token as it is spelt in the vocabulary.
    pub fn piece(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// Whether decoding leaves the token out, such as marks of turns.
    pub fn is_special(&self, token: u32) -> bool {
        self.special.contains(&token)
    }

    pub fn id(&self, piece: &str) -> Option<u32> {
        self.inner.token_to_id(piece)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}
