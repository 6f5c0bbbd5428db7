//! A GGUF file read as its original checkpoint: its `config.json`, and its tensors under their original names.
//!
//! The conversion's changes are undone here, so that models need not know the format: names, the order of rows in
//! Llama's queries and keys, and the 1 that is added to Gemma's norms.

use crate::gguf::{self, Gguf, Kind, Place, Value};
use crate::{Error, Llama3, Result, RopeScaling};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value as Json, json};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// The tensors of a file under the names in the original checkpoint.
pub(crate) struct Tensors {
    file: Gguf,
    places: HashMap<String, (Place, Undo)>,
    /// A factor for all values of a matrix: the tensor `NAME.scale` beside `NAME.weight`.
    scales: HashMap<String, f64>,
}

/// Architectures whose names and changes are known. Mistral's files, and many others, are called `llama`.
const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

/// Supported types.
pub(crate) const KNOWN: &str = "f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k to q6_k, iq1_s, iq1_m, iq2_xxs, iq2_xs, iq2_s, \
                                iq3_xxs, iq3_s, iq4_nl, iq4_xs, tq1_0, tq2_0, mxfp4, nvfp4 or q1_0";

/// Unsupported types, by their numbers in files.
const UNKNOWN: [(u32, &str); 6] = [
    (9, "q8_1"),
    (15, "q8_k"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (28, "f64"),
];

/// How a conversion changed a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Undo {
    Nothing,
    /// In each of this many heads, the two halves of the rows, which turn together, were interleaved.
    Halves(usize),
    /// 1 was added.
    One,
}

impl From<gguf::Error> for Error {
    fn from(error: gguf::Error) -> Error {
        match error {
            gguf::Error::Read { path, source } => Error::Read { path, source },
            gguf::Error::Malformed { path, reason } => Error::Malformed { path, reason },
            gguf::Error::Several { folder, names } => Error::SeveralFiles { folder, names },
        }
    }
}

/// The equivalent of `config.json`, if these weights are a GGUF file.
pub fn config(weights: &Path) -> Result<Option<Json>> {
    let Some(path) = gguf::find(weights)? else {
        return Ok(None);
    };
    let file = Gguf::open(&path)?;
    if let Some(got) = file.architecture().filter(|got| !ARCHITECTURES.contains(got)) {
        return Err(Error::Architecture {
            path,
            got: got.to_owned(),
            known: format!("{}, in GGUF files", ARCHITECTURES.join(", ")),
        });
    }
    let config = settle(&file).map_err(|reason| Error::Malformed { path, reason })?;
    Ok(Some(config))
}

/// The tokens that end an answer, if these weights are a GGUF file.
pub fn stop_tokens(weights: &Path) -> Result<Option<Vec<u32>>> {
    let Some(path) = gguf::find(weights)? else {
        return Ok(None);
    };
    let file = Gguf::open(&path)?;
    let id = |name| u32::try_from(file.get(&format!("tokenizer.ggml.{name}_token_id"))?.count()?).ok();
    let mut ids: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
    ids.dedup();
    Ok(Some(ids))
}

fn settle(file: &Gguf) -> std::result::Result<Json, String> {
    let architecture = file.architecture().ok_or("it has no `general.architecture`")?;
    let mut config = Map::new();
    let class = if architecture == "gemma3" {
        "gemma3_text"
    } else {
        architecture
    };
    config.insert("model_type".into(), class.into());
    let counts = [
        ("num_hidden_layers", "block_count"),
        ("hidden_size", "embedding_length"),
        ("intermediate_size", "feed_forward_length"),
        ("num_attention_heads", "attention.head_count"),
        ("num_key_value_heads", "attention.head_count_kv"),
        ("head_dim", "attention.key_length"),
        ("max_position_embeddings", "context_length"),
        ("sliding_window", "attention.sliding_window"),
        ("sliding_window_pattern", "attention.sliding_window_pattern"),
    ];
    for (name, key) in counts {
        if let Some(count) = file.of_model(key).and_then(Value::count) {
            config.insert(name.into(), count.into());
        }
    }
    let number = |key: &str| file.of_model(key).and_then(Value::number);
    let numbers = [
        ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        ("rope_theta", "rope.freq_base"),
        ("rope_local_base_freq", "rope.freq_base_swa"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ];
    for (name, key) in numbers {
        if let Some(number) = number(key) {
            config.insert(name.into(), shortest(number).into());
        }
    }
    let table = file
        .tensor("token_embd.weight")
        .ok_or("it has no tensor `token_embd.weight`")?;
    config.insert("vocab_size".into(), table.shape.first().copied().unwrap_or(0).into());
    config.insert(
        "tie_word_embeddings".into(),
        file.tensor("output.weight").is_none().into(),
    );
    if architecture != "qwen2" {
        let bias = file.tensor("blk.0.attn_q.bias").is_some();
        config.insert("attention_bias".into(), bias.into());
    }
    if architecture == "gemma3" {
        // Published files do not say how queries are scaled. It is by the head size, except in the 27B model, which
        // other readers recognise by its number of layers.
        let count = |name: &str| config.get(name).and_then(Json::as_u64).filter(|count| *count > 0);
        let heads = count("num_attention_heads").ok_or("it does not say how many heads it has")?;
        let hidden = count("hidden_size").ok_or("it does not say how long its vectors are")?;
        let scalar = match (number("attention.scale"), count("num_hidden_layers")) {
            (Some(scale), _) => shortest(scale.powi(-2)),
            (None, Some(62)) => (hidden / heads) as f64,
            (None, _) => count("head_dim").unwrap_or(256) as f64,
        };
        config.insert("query_pre_attn_scalar".into(), scalar.into());
    }
    if let Some(scaling) = scaling(file)? {
        config.insert("rope_scaling".into(), scaling);
    }
    Ok(config.into())
}

fn scaling(file: &Gguf) -> std::result::Result<Option<Json>, String> {
    let number = |key: &str| file.of_model(key).and_then(Value::number).map(shortest);
    let kind = file
        .of_model("rope.scaling.type")
        .and_then(Value::text)
        .unwrap_or("none");
    let trained = number("rope.scaling.original_context_length");
    if let Some(place) = file.tensor("rope_freqs.weight") {
        return llama3(file, place).map(Some);
    }
    Ok(match kind {
        "none" => None,
        "linear" => Some(json!({ "rope_type": "linear", "factor": number("rope.scaling.factor") })),
        "yarn" => Some(json!({
            "rope_type": "yarn", "factor": number("rope.scaling.factor"), "original_max_position_embeddings": trained,
            "beta_fast": number("rope.scaling.yarn_beta_fast"), "beta_slow": number("rope.scaling.yarn_beta_slow"),
        })),
        other => {
            return Err(format!(
                "its rope is scaled in the way `{other}`, known here: none, linear, yarn"
            ));
        }
    })
}

/// Llama 3's scaling. The file keeps only its result: a divisor for each pair of channels.
///
/// The original lengths are found by trying the usual ones, so that angles are computed as for every other model.
fn llama3(file: &Gguf, place: &Place) -> std::result::Result<Json, String> {
    let bytes = file.bytes(place, 0..place.length).map_err(|e| e.to_string())?;
    let (values, _) = bytes.as_chunks::<4>();
    let factors: Vec<f64> = values.iter().map(|four| f32::from_le_bytes(*four).into()).collect();
    let size = 2 * factors.len();
    let theta = file
        .of_model("rope.freq_base")
        .and_then(Value::number)
        .unwrap_or(10_000.0);
    let plain = RopeScaling::Default.frequencies(size, theta);
    let factor = factors.iter().copied().fold(1.0, f64::max);
    for trained_length in (6..=17).map(|power| f64::from(1 << power)) {
        let scaling = Llama3 {
            factor,
            trained_length,
            low_turns: 1.0,
            high_turns: 4.0,
        };
        let scaled = RopeScaling::Llama3(scaling).frequencies(size, theta);
        let divided = plain.iter().zip(&scaled).map(|(plain, scaled)| plain / scaled);
        let mut found = divided.zip(&factors);
        if place.kind == Kind(0) && found.all(|(divided, found)| (f64::from(divided) / found - 1.0).abs() < 1e-3) {
            return Ok(json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": trained_length,
            }));
        }
    }
    Err("tensor `rope_freqs.weight` scales its rope in a way that is not known here".to_owned())
}

/// The shortest decimal of a file's fp32 number: 1e-6, and not 9.999999974752427e-7.
fn shortest(number: f64) -> f64 {
    (number as f32).to_string().parse().unwrap_or(number)
}

impl Tensors {
    pub fn open(path: &Path) -> Result<Tensors> {
        let file = Gguf::open(path)?;
        let count = |key| {
            let count = file.of_model(key).and_then(Value::count);
            count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
        };
        let (heads, keys) = (count("attention.head_count"), count("attention.head_count_kv"));
        let architecture = file.architecture().unwrap_or_default();
        let mut places = HashMap::new();
        for (name, place) in file.tensors() {
            let (Some(old), undo) = (old_name(name, architecture), undo(name, architecture, heads, keys)) else {
                continue;
            };
            places.insert(old, (place.clone(), undo));
        }
        let mut scales = HashMap::new();
        for (name, (place, _)) in &places {
            let Some(scaled) = name.strip_suffix(".scale").map(|matrix| format!("{matrix}.weight")) else {
                continue;
            };
            if place.kind != Kind(0) || place.length != 4 {
                return Err(Error::Malformed {
                    path: path.to_owned(),
                    reason: format!("tensor `{name}` is not a single number of the type f32"),
                });
            }
            let bytes = file.bytes(place, 0..4)?;
            let (numbers, _) = bytes.as_chunks::<4>();
            scales.extend(
                numbers
                    .iter()
                    .map(|four| (scaled.clone(), f32::from_le_bytes(*four).into())),
            );
        }
        Ok(Tensors { file, places, scales })
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.places.keys()
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|(place, _)| place.shape.as_slice())
    }

    /// The type of the blocks that a tensor is stored in, if any.
    pub fn block_type(&self, name: &str) -> Option<GgmlDType> {
        let place = &self.places.get(name)?.0;
        block_type(place.kind).filter(|_| !self.scales.contains_key(name))
    }

    /// The type of a tensor, if it is not known.
    pub fn unknown_kind(&self, name: &str) -> Option<String> {
        let kind = self.places.get(name)?.0.kind;
        let known = matches!(kind.0, 0 | 1 | 30) || block_type(kind).is_some() || gguf::blocks::reads(kind.0);
        (!known).then(|| match UNKNOWN.iter().find(|(number, _)| *number == kind.0) {
            Some((_, name)) => (*name).to_owned(),
            None => format!("GGUF's type {}", kind.0),
        })
    }

    /// All values of a tensor, in main memory.
    pub fn values(&self, name: &str) -> Result<Option<Tensor>> {
        let Some((place, undo)) = self.places.get(name) else {
            return Ok(None);
        };
        let rows = place.shape.first().copied().unwrap_or(1);
        let bytes = match undo {
            Undo::Halves(_) => self.rows(name, 0..rows)?,
            _ => self.file.bytes(place, 0..place.length)?,
        };
        let values = self.scaled(name, decoded(place.kind, bytes, &place.shape)?)?;
        match undo {
            Undo::One => Ok(Some((values.to_dtype(DType::F32)? - 1.0)?)),
            _ => Ok(Some(values)),
        }
    }

    /// Some rows of a matrix as fp32.
    pub fn row_values(&self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let (place, _) = self.place(name)?;
        let inputs = place.shape.get(1).copied().unwrap_or(1);
        let values = decoded(place.kind, self.rows(name, rows.clone())?, &[rows.len(), inputs])?;
        let values = self.scaled(name, values)?;
        Ok(values.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    fn scaled(&self, name: &str, values: Tensor) -> Result<Tensor> {
        match self.scales.get(name) {
            Some(scale) => Ok((values.to_dtype(DType::F32)? * *scale)?),
            None => Ok(values),
        }
    }

    /// The stored bytes of some rows, in the original order of rows.
    pub fn rows(&self, name: &str, rows: Range<usize>) -> Result<Vec<u8>> {
        let (place, undo) = self.place(name)?;
        let all = place.shape.first().copied().unwrap_or(1).max(1);
        let length = place.length as usize / all;
        if length * all != place.length as usize {
            let said = format!("the rows of `{name}` do not end at whole bytes");
            return Err(candle_core::Error::Msg(said).into());
        }
        let bytes = |start: usize, end: usize| {
            let place_of = |row: usize| (row * length) as u64;
            self.file.bytes(place, place_of(start)..place_of(end))
        };
        match undo {
            Undo::Halves(heads) if *heads > 0 && all.is_multiple_of(2 * heads) => {
                let half = all / heads / 2;
                let mut sorted = Vec::with_capacity(rows.len() * length);
                for row in rows {
                    let (head, within) = (row / (2 * half), row % (2 * half));
                    let from = head * 2 * half + (within % half) * 2 + within / half;
                    sorted.extend_from_slice(&bytes(from, from + 1)?);
                }
                Ok(sorted)
            }
            _ => Ok(bytes(rows.start, rows.end)?),
        }
    }

    fn place(&self, name: &str) -> Result<&(Place, Undo)> {
        let lost = || candle_core::Error::Msg(format!("the file has no `{name}`"));
        Ok(self.places.get(name).ok_or_else(lost)?)
    }
}

/// Decodes values of a known type.
fn decoded(kind: Kind, bytes: Vec<u8>, shape: &[usize]) -> Result<Tensor> {
    let plain = match kind.0 {
        0 => Some(DType::F32),
        1 => Some(DType::F16),
        30 => Some(DType::BF16),
        _ => None,
    };
    match (plain, block_type(kind)) {
        (Some(dtype), _) => Ok(Tensor::from_raw_buffer(&bytes, dtype, shape, &Device::Cpu)?),
        (None, Some(dtype)) => {
            let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, dtype)?;
            Ok(QTensor::new(storage, shape)?.dequantize(&Device::Cpu)?)
        }
        (None, None) if gguf::blocks::reads(kind.0) => {
            let values = gguf::blocks::values(kind.0, &bytes).unwrap_or_default();
            Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
        }
        (None, None) => Err(candle_core::Error::Msg(format!("GGUF's type {} is not supported", kind.0)).into()),
    }
}

fn block_type(kind: Kind) -> Option<GgmlDType> {
    Some(match kind.0 {
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        _ => return None,
    })
}

/// The original name of a tensor; none if models do not need it.
fn old_name(name: &str, architecture: &str) -> Option<String> {
    let (gemma, whole) = (architecture == "gemma3", name);
    match whole {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, end) = rest.rsplit_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if gemma => "pre_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "post_attention_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{end}"))
}

fn undo(name: &str, architecture: &str, heads: usize, keys: usize) -> Undo {
    let part = name.rsplit_once('.').map_or(name, |(part, _)| part);
    match architecture {
        "llama" if part.ends_with("attn_q") => Undo::Halves(heads),
        "llama" if part.ends_with("attn_k") => Undo::Halves(keys),
        "gemma3" if part.ends_with("_norm") => Undo::One,
        _ => Undo::Nothing,
    }
}

#[cfg(test)]
mod tests;
