//! The four downloads that the model is made of, or the one folder that `convert` makes of them.

use crate::config::{BeatsConfig, ConnectorConfig, Published};
use candle_core::{DType, Device};
use model::{Limits, Precision};
use nn::dense::{self, TextConfig};
use nn::encoder::{EncoderConfig, EncoderFields};
use nn::{Error, Extractor, Pickle, Result, Weights};
use plugin_api::{Code, Estimate, Settings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::path::{Component, Path, PathBuf};

/// The file that names the parts in a folder of downloads.
const NAMES: &str = "salmonn_config.json";
/// How the parts are given.
const NAMED: &str = "give `whisper`, `beats`, `vicuna` and `salmonn`, or as `weights` a folder whose salmonn_config.json \
                     names them, or one that `host convert salmonn` made";
/// The file that describes a folder made by `convert`.
const CONVERTED: &str = "config.json";

/// The settings, and fields of [`NAMES`], that name the four downloads.
const DOWNLOADS: [&str; 4] = ["whisper", "beats", "vicuna", "salmonn"];

/// Parts of one folder that are not the language model.
const OTHERS: [&str; 3] = ["whisper.", "beats.", "salmonn."];

/// All parts, opened.
#[derive(Clone)]
pub struct Files {
    pub published: Published,
    pub connector: ConnectorConfig,
    pub whisper: EncoderConfig,
    pub beats: BeatsConfig,
    pub vicuna: dense::Config,
    /// The encoders and the trained layers between them and the language model, in fp32.
    pub whisper_weights: Weights,
    pub beats_weights: Weights,
    pub trained: Weights,
    /// The language model, in the precision of the settings.
    pub vicuna_weights: Weights,
    /// The folder of the tokenizer and the generation settings.
    pub words: PathBuf,
    /// The configs of the parts, for `convert`.
    pub described: Value,
}

impl Files {
    pub fn open(settings: &Settings, precision: &Precision, device: &Device) -> plugin_api::Result<Files> {
        let folder: Option<PathBuf> = settings.get("weights")?;
        let given = |name: &str| settings.get::<PathBuf>(name);
        if let Some(folder) = &folder
            && is_converted(folder)
        {
            if let Some(name) = DOWNLOADS.into_iter().find(|name| matches!(given(name), Ok(Some(_)))) {
                let message = format!("`{}` holds all parts, and `{name}` is given besides", folder.display());
                return Err(plugin_api::Error::new(Code::SETTINGS, message).help("give one or the other"));
            }
            return converted(folder, precision, device).map_err(Error::into_plugin_error);
        }
        let published: Published = match &folder {
            Some(folder) if !folder.join(NAMES).is_file() => {
                let message = format!("`{}` has no {NAMES} that names the parts in it", folder.display());
                return Err(plugin_api::Error::new(Code::MISSING, message).help(NAMED));
            }
            Some(folder) => nn::read_json(&folder.join(NAMES)).map_err(Error::into_plugin_error)?,
            None => Published::default(),
        };
        let part = |name: &str, named: &str| match (given(name)?, &folder) {
            (Some(path), _) => Ok(path),
            (None, Some(folder)) => beside(folder, named).map_err(Error::into_plugin_error),
            (None, None) => {
                let message = format!("setting `{name}` is missing: the model is made of four downloads");
                Err(plugin_api::Error::new(Code::SETTINGS, message).help(NAMED))
            }
        };
        let parts = [
            part("whisper", &published.whisper_path)?,
            part("beats", &published.beats_path)?,
            part("vicuna", &published.llama_path)?,
            part("salmonn", &published.ckpt)?,
        ];
        downloads(published, parts, precision, device).map_err(Error::into_plugin_error)
    }

    /// The same files for reading the model once: memory that its layers share is freed with the model, even while this
    /// value lives.
    pub fn for_reading(&self) -> Files {
        Files {
            vicuna_weights: self.vicuna_weights.clone().unshared(),
            ..self.clone()
        }
    }

    /// The setting that names the language model.
    pub fn setting(&self) -> &'static str {
        match self.vicuna_weights.path("").is_empty() {
            true => "vicuna",
            false => "weights",
        }
    }

    /// Refuses parts that do not fit into this machine's memory, with the caches of one answer.
    pub fn fitting(&self, precision: &Precision) -> Result<()> {
        let (besides, cache) = self.besides(precision);
        self.vicuna_weights.clone().fitting(&OTHERS, cache + besides)?;
        Ok(())
    }

    /// The memory for all of it.
    pub fn memory_estimate(&self, precision: &Precision, limits: &Limits) -> Estimate {
        let (besides, cache) = self.besides(precision);
        let vicuna = self
            .vicuna_weights
            .memory_estimate(&OTHERS, cache, Limits::PLANNED_TOKENS, limits.rows);
        Estimate {
            weights_bytes: vicuna.weights_bytes + besides,
            ..vicuna
        }
    }

    /// The memory of all parts but the language model, and of one answer's caches.
    pub fn besides(&self, precision: &Precision) -> (u64, u64) {
        let unused = ["vicuna.", "model.decoder.", "decoder.", "proj_out."];
        let mut besides = self.whisper_weights.estimate(&unused).0;
        if self.beats_weights.path("").is_empty() {
            besides += self.beats_weights.estimate(&["predictor."]).0 + self.trained.estimate(&[]).0;
        }
        (
            besides,
            self.vicuna.cache_bytes(precision.dtype, Limits::PLANNED_TOKENS),
        )
    }

    /// All weights, the language model's first.
    pub fn weights(&self) -> [&Weights; 4] {
        [
            &self.vicuna_weights,
            &self.whisper_weights,
            &self.beats_weights,
            &self.trained,
        ]
    }
}

fn is_converted(folder: &Path) -> bool {
    folder.join(CONVERTED).is_file() && !folder.join(NAMES).is_file()
}

/// Opens downloads, in the order of [`DOWNLOADS`].
fn downloads(published: Published, parts: [PathBuf; 4], precision: &Precision, device: &Device) -> Result<Files> {
    let [whisper, beats, vicuna, salmonn] = &parts;
    let (whisper_config, vicuna_config) = (read_config(whisper)?, read_config(vicuna)?);
    let (beats_config, beats_weights) = open_beats(&one_file(beats)?, device)?;
    let described = json!({
        "model_type": "salmonn",
        "salmonn": published,
        "whisper": whisper_config,
        "beats": beats_config,
        "vicuna": vicuna_config,
    });
    let open = |folder: &Path, dtype| Weights::open(folder, dtype, device);
    let files = settle(
        described,
        open(whisper, DType::F32)?,
        beats_weights,
        open_file(&one_file(salmonn)?, device)?,
        open(vicuna, precision.dtype)?.quantised(precision.quant),
        vicuna.to_owned(),
    )?;
    Extractor::from_folder(whisper, &files.whisper)?.fills(&files.whisper)?;
    Ok(files)
}

fn read_config(part: &Path) -> Result<Value> {
    let path = part.join("config.json");
    let config = nn::read_json(&path)?;
    checkpoint::refuse_unread_quantisation(&path, &config)?;
    Ok(config)
}

fn converted(folder: &Path, precision: &Precision, device: &Device) -> Result<Files> {
    let path = folder.join(CONVERTED);
    let described: Value = nn::read_json(&path)?;
    let kind = described["model_type"].as_str().unwrap_or("none named");
    if kind != "salmonn" {
        return Err(Error::Architecture {
            path,
            got: kind.to_owned(),
            known: "salmonn".to_owned(),
        });
    }
    let weights = Weights::open(folder, DType::F32, device)?;
    let vicuna = Weights::open(folder, precision.dtype, device)?.quantised(precision.quant);
    settle(
        described,
        weights.at("whisper"),
        weights.at("beats"),
        weights.at("salmonn"),
        vicuna.at("vicuna"),
        folder.to_owned(),
    )
}

fn settle(
    described: Value,
    whisper_weights: Weights,
    beats_weights: Weights,
    trained: Weights,
    vicuna_weights: Weights,
    words: PathBuf,
) -> Result<Files> {
    let published: Published = part(&described, "salmonn")?;
    // The config class's default is 80 bins, but these encoders have 128.
    let mut whisper: Map<String, Value> = part(&described, "whisper")?;
    whisper.entry("num_mel_bins").or_insert(80.into());
    let whisper: EncoderFields = of_value("whisper", whisper.into())?;
    let beats: BeatsConfig = part(&described, "beats")?;
    let vicuna: TextConfig = part(&described, "vicuna")?;
    Ok(Files {
        connector: published.connector()?,
        whisper: whisper.settle()?,
        beats: beats.checked()?,
        vicuna: vicuna.settle()?,
        published,
        whisper_weights,
        beats_weights,
        trained,
        vicuna_weights,
        words,
        described,
    })
}

fn part<T: DeserializeOwned>(described: &Value, name: &str) -> Result<T> {
    of_value(name, described[name].clone())
}

fn of_value<T: DeserializeOwned>(name: &str, value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| Error::Config {
        what: format!("the description of `{name}`"),
        got: e.to_string(),
        expected: "the fields of the original".to_owned(),
    })
}

/// The path of a part that a folder's description names, which must be inside the folder.
fn beside(folder: &Path, name: &str) -> Result<PathBuf> {
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    match Path::new(name).components().all(plain) {
        true => Ok(folder.join(name)),
        false => Err(Error::Malformed {
            path: folder.join(NAMES),
            reason: format!("it names `{name}`, which is outside of the folder"),
        }),
    }
}

/// A file, or the only file of weights in a folder, such as a hub's.
fn one_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let entries = std::fs::read_dir(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let of_weights = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        ["pt", "pth", "bin", "safetensors"].contains(&end)
    };
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(of_weights).collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        count => Err(Error::Malformed {
            path: path.to_owned(),
            reason: format!("it holds {count} files of weights, expected one: name the file"),
        }),
    }
}

/// BEATs stores its settings with its tensors; after a conversion to safetensors, in a file of the same name and
/// `_config.json`.
fn open_beats(path: &Path, device: &Device) -> Result<(Map<String, Value>, Weights)> {
    if !is_safetensors(path) {
        let pickle = Pickle::open(path)?;
        let weights = Weights::of_pickle(&pickle, Some("model"), DType::F32, device)?;
        return Ok((pickle.settings("cfg")?, weights));
    }
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let config = nn::read_json(&path.with_file_name(format!("{name}_config.json")))?;
    Ok((config, Weights::of_file(path, DType::F32, device)?))
}

fn open_file(path: &Path, device: &Device) -> Result<Weights> {
    match is_safetensors(path) {
        true => Weights::of_file(path, DType::F32, device),
        false => Weights::of_pickle(&Pickle::open(path)?, Some("model"), DType::F32, device),
    }
}

fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "safetensors")
}
