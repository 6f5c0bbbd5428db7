//! Reads `tokenizer.model`, SentencePiece's own file, for checkpoints without a `tokenizer.json`.
//!
//! The decision a newcomer would question: it is converted to the equivalent `tokenizer.json`, so that everything else
//! works on one kind of tokenizer. The merges of a byte-pair model are not in the file; they follow from its pieces,
//! since a pair can be merged whenever the result is a piece.

use serde_json::{Value, json};
use std::collections::HashMap;

/// Far more than any published model has; the limits keep a damaged file from causing much work.
pub(crate) const MOST_PIECES: usize = 2_000_000;
pub(crate) const LONGEST_PIECE: usize = 512;

/// The types of pieces, as numbered in the file and in GGUF files.
pub(crate) const UNKNOWN: u64 = 2;
pub(crate) const CONTROL: u64 = 3;
pub(crate) const USER_DEFINED: u64 = 4;
pub(crate) const UNUSED: u64 = 5;
pub(crate) const BYTE: u64 = 6;

/// The types of models, as numbered in the file.
const UNIGRAM: u64 = 1;
const BPE: u64 = 2;

pub(crate) struct Piece {
    pub text: String,
    pub score: f32,
    pub kind: u64,
}

struct Model {
    pieces: Vec<Piece>,
    kind: u64,
    byte_fallback: bool,
    charsmap: Vec<u8>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
}

/// The equivalent `tokenizer.json`, with the token that begins a text before plain texts, if wanted.
pub(crate) fn tokenizer_json(file: &[u8], with_first: bool) -> Result<Value, String> {
    let model = Model::read(file)?;
    let mut vocabulary = HashMap::new();
    for (id, piece) in model.pieces.iter().enumerate() {
        if vocabulary.insert(piece.text.as_str(), id).is_some() {
            return Err(format!("it has the piece `{}` twice", piece.text));
        }
    }
    let of_kind = |kind| {
        let pieces = model.pieces.iter().enumerate();
        pieces.filter(move |(_, piece)| piece.kind == kind)
    };
    let unknown = of_kind(UNKNOWN).next().ok_or("it has no piece for unknown text")?;
    if let Some((_, piece)) = of_kind(USER_DEFINED).next() {
        // Text before and after such a piece is tokenised as if the piece were not there, which no `tokenizer.json`
        // can express.
        return Err(format!(
            "its user-defined piece `{}` is of a type that is not supported",
            piece.text
        ));
    }
    let added = of_kind(UNKNOWN).chain(of_kind(CONTROL)).map(|(id, piece)| {
        json!({ "id": id, "content": piece.text, "special": true, "normalized": false,
            "single_word": false, "lstrip": false, "rstrip": false })
    });
    let added: Vec<Value> = added.collect();
    let first = of_kind(CONTROL).find(|(_, piece)| piece.text == "<s>" && with_first);
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": model.normalizer(),
        "post_processor": first.map(|(id, _)| json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<s>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "<s>": { "id": "<s>", "ids": [id], "tokens": ["<s>"] } },
        })),
        "decoder": { "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": usize::from(model.add_dummy_prefix), "stop": 0 },
        ] },
        "model": match model.kind {
            BPE => json!({ "type": "BPE", "unk_token": unknown.1.text, "fuse_unk": true,
                "byte_fallback": model.byte_fallback, "vocab": vocabulary, "merges": merges(&model.pieces, &vocabulary) }),
            _ => json!({ "type": "Unigram", "unk_id": unknown.0, "byte_fallback": model.byte_fallback,
                "vocab": model.pieces.iter().map(|piece| json!([piece.text, piece.score])).collect::<Vec<_>>() }),
        },
    }))
}

impl Model {
    fn read(file: &[u8]) -> Result<Model, String> {
        let mut model = Model {
            pieces: Vec::new(),
            kind: UNIGRAM,
            byte_fallback: false,
            charsmap: Vec::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
        };
        for field in Fields(file) {
            match field? {
                (1, Field::Bytes(piece)) => {
                    let piece = Piece::read(piece)?;
                    if model.pieces.len() >= MOST_PIECES || piece.text.len() > LONGEST_PIECE {
                        return Err(format!(
                            "it has more than {MOST_PIECES} pieces, or one of more than {LONGEST_PIECE} bytes"
                        ));
                    }
                    model.pieces.push(piece);
                }
                (2, Field::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Field::Number(kind)) => model.kind = kind,
                            (35, Field::Number(flag)) => model.byte_fallback = flag != 0,
                            _ => {}
                        }
                    }
                }
                (3, Field::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Field::Bytes(charsmap)) => model.charsmap = charsmap.to_vec(),
                            (3, Field::Number(flag)) => model.add_dummy_prefix = flag != 0,
                            (4, Field::Number(flag)) => model.remove_extra_whitespaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match model.kind {
            BPE | UNIGRAM => Ok(model),
            kind => Err(format!(
                "its models are of kind {kind}, known here: 1 (unigram) and 2 (BPE)"
            )),
        }
    }

    fn normalizer(&self) -> Value {
        let mut steps = Vec::new();
        if !self.charsmap.is_empty() {
            steps.push(json!({ "type": "Precompiled", "precompiled_charsmap": base64(&self.charsmap) }));
        }
        if self.remove_extra_whitespaces {
            steps.push(json!({ "type": "Strip", "strip_left": true, "strip_right": true }));
            steps.push(json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": " " }));
        }
        if self.add_dummy_prefix {
            steps.push(json!({ "type": "Prepend", "prepend": "▁" }));
        }
        steps.push(json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" }));
        json!({ "type": "Sequence", "normalizers": steps })
    }
}

/// Every way to build a piece from two, ordered by the new piece.
pub(crate) fn merges<'a>(pieces: &'a [Piece], vocabulary: &HashMap<&str, usize>) -> Vec<[&'a str; 2]> {
    let mut merges = Vec::new();
    let normal = |id: &usize| !matches!(pieces[*id].kind, UNKNOWN | CONTROL | UNUSED | BYTE);
    let known = |part: &str| vocabulary.get(part).copied().filter(normal);
    for (id, Piece { text, score, .. }) in pieces.iter().enumerate().filter(|(id, _)| normal(id)) {
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let (Some(left_id), Some(right_id)) = (known(left), known(right)) {
                merges.push((-score, id, left_id, right_id, [left, right]));
            }
        }
    }
    merges.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    merges.into_iter().map(|(.., pair)| pair).collect()
}

impl Piece {
    fn read(bytes: &[u8]) -> Result<Piece, String> {
        let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(bytes)) => {
                    text = String::from_utf8(bytes.to_vec()).map_err(|_| "a piece is not UTF-8".to_owned())?;
                }
                (2, Field::Single(bits)) => score = f32::from_bits(bits),
                (3, Field::Number(number)) => kind = number,
                _ => {}
            }
        }
        match text.is_empty() || score.is_nan() {
            true => Err("a piece is empty, or its score is not a number".to_owned()),
            false => Ok(Piece { text, score, kind }),
        }
    }
}

/// The fields of a protocol buffer message.
struct Fields<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Single(u32),
    Bytes(&'a [u8]),
    Double,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Field<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[]; // after an error, nothing more can be read
        }
        Some(field.ok_or_else(|| "it is truncated, or not a SentencePiece model".to_owned()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let key = self.number()?;
        let field = match key & 7 {
            0 => Field::Number(self.number()?),
            1 => self.take(8).map(|_| Field::Double)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Single(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, field))
    }

    /// A varint: seven bits a byte, lowest first; the eighth bit says that more bytes follow.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |chunk: &[u8]| {
        let wide = chunk
            .iter()
            .chain([&0; 2])
            .take(3)
            .fold(0, |all, &byte| all << 8 | usize::from(byte));
        let digit = move |place: usize| DIGITS[wide >> (18 - 6 * place) & 63] as char;
        let kept = chunk.len() + 1;
        (0..4).map(move |place| if place < kept { digit(place) } else { '=' })
    };
    bytes.chunks(3).flat_map(four).collect()
}
