//! `tokenizer.json`, read with the `tokenizers` crate; where there is none, `tokenizer.model` or what a GGUF file has.

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
    /// None where every text is cut as a whole.
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
        // The file does not say whether a text begins with a token of its own; Llama's classes put one there.
        let config = std::fs::read(folder.join("tokenizer_config.json")).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap_or_default();
        let with_first = config["add_bos_token"].as_bool().unwrap_or(true);
        let json = sentencepiece::tokenizer_json(&bytes, with_first).map_err(|reason| Error::Malformed {
            path: path.clone(),
            reason,
        })?;
        Tokenizer::from_json(json.to_string().as_bytes(), path)
    }

    /// One token for each byte, and one for each blank with a letter behind it, as most tokenizers have.
    pub fn of_bytes() -> Result<Tokenizer> {
        let bytes: BTreeSet<char> = ByteLevel::alphabet().into_iter().collect();
        let blank = 'Ġ'; // what byte-level vocabularies write for it
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

    /// What a file has in the layout of `tokenizer.json`.
    pub(crate) fn from_json(bytes: &[u8], path: PathBuf) -> Result<Tokenizer> {
        let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| Error::Malformed {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        // A file may carry the truncation and padding of whoever saved it; a prompt wants neither.
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

    /// Refuses a tokenizer that could name a row the embedding table does not have.
    pub fn check_rows(&self, rows: usize) -> Result<()> {
        self.check_highest(rows, |_| true)
    }

    /// The same, of all tokens but the special ones.
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

    /// Tokens of a text that already spells its special tokens, such as a rendered chat template.
    ///
    /// The post-processor is left out: it would add a second beginning-of-text token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        match &self.stretches {
            Some(stretches) => stretches.encode(text, |stretch| self.encode_with(stretch, false)),
            None => self.encode_with(text, false),
        }
    }

    /// Tokens of a bare text, with whatever the post-processor puts around it.
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

    /// Tokens with the bytes of the text that each stands for.
    pub fn encode_with_places(&self, text: &str, bare: bool) -> Result<Vec<(u32, std::ops::Range<usize>)>> {
        let encoding = self
            .inner
            .encode(text, bare)
            .map_err(|e| Error::Encode { reason: e.to_string() })?;
        let places = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(places).collect())
    }

    /// Text of the tokens, special tokens included.
    pub fn decode_all(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, false)
            .map_err(|e| Error::Decode { reason: e.to_string() })
    }

    /// Text of the tokens, special tokens left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, true)
            .map_err(|e| Error::Decode { reason: e.to_string() })
    }

    /// The token as the vocabulary spells it.
    pub fn piece(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// Whether decoding leaves the token out, as it does the marks of turns.
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
