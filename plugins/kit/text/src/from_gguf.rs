//! Builds the tokenizer and chat template of a GGUF file, in the form of the original `tokenizer.json`.
//!
//! Such a file has the vocabulary, but only names for the rest. Their meanings are spelt out here. An unknown name is
//! an error, since a model still answers a text that was tokenised wrongly.

use crate::sentencepiece::{CONTROL, LONGEST_PIECE, MOST_PIECES, Piece, UNKNOWN, UNUSED, USER_DEFINED, merges};
use crate::{Error, Result, cuts};
use checkpoint::gguf::{self, Gguf, Value};
use serde_json::{Map, Value as Json, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The GGUF file of a checkpoint, if there is one, and the folder where its other files may be.
pub(crate) fn beside(weights: &Path) -> Result<(PathBuf, Option<Gguf>)> {
    let Some(file) = gguf::find(weights)? else {
        return Ok((weights.to_owned(), None));
    };
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder, Some(Gguf::open(&file)?)))
}

pub(crate) fn template(file: &Gguf) -> Option<String> {
    file.get("tokenizer.chat_template")?.text().map(str::to_owned)
}

/// `bos_token`, `eos_token` and similar tokens.
pub(crate) fn special_tokens(file: &Gguf) -> Map<String, Json> {
    let tokens = file
        .get("tokenizer.ggml.tokens")
        .and_then(Value::texts)
        .unwrap_or_default();
    let named = [
        ("bos_token", "bos"),
        ("eos_token", "eos"),
        ("unk_token", "unknown"),
        ("pad_token", "padding"),
    ];
    let token = |name| {
        let id = file.get(&format!("tokenizer.ggml.{name}_token_id"))?.count()?;
        Some(Json::from(tokens.get(usize::try_from(id).ok()?)?.as_str()))
    };
    named
        .into_iter()
        .filter_map(|(name, key)| Some((name.to_owned(), token(key)?)))
        .collect()
}

/// The equivalent of `tokenizer.json`.
pub(crate) fn tokenizer(file: &Gguf) -> Result<Json> {
    let malformed = |reason: String| Error::Malformed {
        path: file.path().to_owned(),
        reason,
    };
    let unknown = |what, got: &str, known| Error::Unknown {
        path: file.path().to_owned(),
        what,
        got: got.to_owned(),
        known,
    };
    let vocabulary = Vocabulary::read(file).map_err(malformed)?;
    let model = file.get("tokenizer.ggml.model").and_then(Value::text);
    match model.ok_or_else(|| malformed("it has no `tokenizer.ggml.model`".to_owned()))? {
        "gpt2" => {
            let name = file.get("tokenizer.ggml.pre").and_then(Value::text);
            let name = name.unwrap_or("default");
            let cut = cuts::named(name).ok_or_else(|| unknown("pre-tokenizer", name, cuts::known()))?;
            vocabulary.byte_pairs(file, cut)
        }
        "llama" => vocabulary.sentence_pieces(file),
        other => return Err(unknown("tokenizer", other, "gpt2, llama".to_owned())),
    }
    .map_err(malformed)
}

struct Vocabulary<'a> {
    tokens: &'a [String],
    kinds: Vec<u64>,
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a Gguf) -> std::result::Result<Vocabulary<'a>, String> {
        let tokens = file.get("tokenizer.ggml.tokens").and_then(Value::texts);
        let tokens = tokens.ok_or("it has no `tokenizer.ggml.tokens`")?;
        let table = file.tensor("token_embd.weight").and_then(|table| table.shape.first());
        if let Some(&rows) = table.filter(|&&rows| rows != tokens.len()) {
            return Err(format!(
                "it has {} tokens, but `token_embd.weight` has {rows} rows",
                tokens.len()
            ));
        }
        let kinds = match file.get("tokenizer.ggml.token_type").and_then(Value::numbers) {
            Some(kinds) if kinds.len() == tokens.len() => kinds.iter().map(|&kind| kind as u64).collect(),
            Some(kinds) => {
                return Err(format!(
                    "it has {} tokens, but the kinds of {}",
                    tokens.len(),
                    kinds.len()
                ));
            }
            None => vec![1; tokens.len()],
        };
        Ok(Vocabulary { tokens, kinds })
    }

    fn each(&self) -> impl Iterator<Item = (u32, &'a str, u64)> {
        let numbered = (0u32..).zip(self.tokens).zip(&self.kinds);
        numbered.map(|((id, token), &kind)| (id, token.as_str(), kind))
    }

    /// Tokens that are matched in a text before all others.
    fn added(&self) -> Vec<Json> {
        let added = self
            .each()
            .filter(|(.., kind)| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED));
        added
            .map(|(id, token, kind)| {
                json!({ "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                        "normalized": false, "special": kind != USER_DEFINED })
            })
            .collect()
    }

    fn byte_pairs(&self, file: &Gguf, cut: &cuts::Cut) -> std::result::Result<Json, String> {
        let merges = file.get("tokenizer.ggml.merges").and_then(Value::texts);
        let merges = merges.ok_or("it has no `tokenizer.ggml.merges`")?;
        let words = self
            .each()
            .filter(|(.., kind)| !matches!(*kind, CONTROL | USER_DEFINED | UNUSED));
        let vocabulary: Map<String, Json> = words.map(|(id, token, _)| (token.to_owned(), id.into())).collect();
        Ok(json!({
            "version": "1.0", "added_tokens": self.added(), "normalizer": cut.normalizer(),
            "pre_tokenizer": cut.pre_tokenizer(),
            "post_processor": self.first_token(file, cut.begins),
            "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false },
            "model": { "type": "BPE", "ignore_merges": cut.ignore_merges, "vocab": vocabulary, "merges": merges },
        }))
    }

    /// Pieces with scores are merged in the order of the merged piece's score, as in the original.
    fn sentence_pieces(&self, file: &Gguf) -> std::result::Result<Json, String> {
        let scores = file.get("tokenizer.ggml.scores").and_then(Value::numbers);
        let scores = scores.filter(|scores| scores.len() == self.tokens.len());
        let scores = scores.ok_or("it has no `tokenizer.ggml.scores`, or not one for each token")?;
        if self.tokens.len() > MOST_PIECES || self.tokens.iter().any(|token| token.len() > LONGEST_PIECE) {
            return Err(format!(
                "it has more than {MOST_PIECES} tokens, or one of more than {LONGEST_PIECE} bytes"
            ));
        }
        let pieces: Vec<Piece> = self
            .each()
            .zip(scores)
            .map(|((_, text, kind), &score)| Piece {
                text: text.to_owned(),
                score: score as f32,
                kind,
            })
            .collect();
        let ids: HashMap<&str, usize> = self.each().map(|(id, token, _)| (token, id as usize)).collect();
        let merges = merges(&pieces, &ids);
        let words = self.each().filter(|(.., kind)| *kind != UNUSED);
        let vocabulary: Map<String, Json> = words.map(|(id, token, _)| (token.to_owned(), id.into())).collect();
        let prefixed = file
            .get("tokenizer.ggml.add_space_prefix")
            .and_then(Value::flag)
            .unwrap_or(true);
        let space = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
        let mut normalizers = vec![space];
        let mut decoders = vec![
            json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
        ];
        if prefixed {
            normalizers.insert(0, json!({ "type": "Prepend", "prepend": "▁" }));
            decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
        }
        let unknown = self
            .each()
            .find(|(.., kind)| *kind == UNKNOWN)
            .map(|(_, token, _)| token);
        Ok(json!({
            "version": "1.0", "added_tokens": self.added(),
            "normalizer": { "type": "Sequence", "normalizers": normalizers },
            "post_processor": self.first_token(file, true),
            "decoder": { "type": "Sequence", "decoders": decoders },
            "model": { "type": "BPE", "unk_token": unknown, "fuse_unk": true, "byte_fallback": true,
                       "vocab": vocabulary, "merges": merges },
        }))
    }

    /// Adds the token that begins a text to plain text.
    fn first_token(&self, file: &Gguf, usual: bool) -> Json {
        let wanted = file.get("tokenizer.ggml.add_bos_token").and_then(Value::flag);
        let id = file.get("tokenizer.ggml.bos_token_id").and_then(Value::count);
        let token = id.and_then(|id| Some((id, self.tokens.get(usize::try_from(id).ok()?)?)));
        match token.filter(|_| wanted.unwrap_or(usual)) {
            None => Json::Null,
            Some((id, token)) => {
                let first = json!({ "SpecialToken": { "id": token, "type_id": 0 } });
                let text = |id, number| json!({ "Sequence": { "id": id, "type_id": number } });
                json!({ "type": "TemplateProcessing", "single": [first, text("A", 0)],
                        "pair": [first, text("A", 0), text("B", 1)],
                        "special_tokens": { token: { "id": token, "ids": [id], "tokens": [token] } } })
            }
        }
    }
}
