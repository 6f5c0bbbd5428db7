//! `--config run.toml`: the flags of a run in a file. A run's own `run.toml` is one.

use crate::audio::interventions::Intervention;
use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::{Given, nearest_hint};
use crate::run::sample_clips;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One name, several, or several in one text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Names {
    One(String),
    Many(Vec<String>),
}

impl Names {
    pub fn list(self) -> Vec<String> {
        match self {
            Names::One(text) => vec![text],
            Names::Many(texts) => texts,
        }
    }
}

/// A number or a text: `limit = 20`, `limit = "10-20"`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Whole(i64),
    Number(f64),
    Text(String),
}

impl std::fmt::Display for Scalar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Whole(number) => write!(f, "{number}"),
            Scalar::Number(number) => write!(f, "{number:?}"), // `1.0` stays a share
            Scalar::Text(text) => f.write_str(text),
        }
    }
}

/// The file. Keys are the long flags.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Config {
    pub model: Option<Names>,
    pub task: Option<Names>,
    pub judge: Option<Names>,
    pub model_settings: Map<String, Value>,
    pub task_settings: Map<String, Value>,
    pub judge_settings: Map<String, Value>,
    pub limit: Option<Scalar>,
    pub sample_id: Vec<String>,
    pub shard: Option<String>,
    pub role: Vec<String>,
    #[serde(alias = "ears")]
    pub transcriber: Option<String>,
    #[serde(alias = "ears-prompt")]
    pub transcriber_prompt: Option<String>,
    pub lora: Option<Names>,
    pub seed: Option<u64>,
    pub chains: Option<u32>,
    pub batch_size: Option<Scalar>,
    pub workers: Option<usize>,
    pub out: Option<PathBuf>,
    pub fail_on_error: Option<Scalar>,
    pub time_limit: Option<Scalar>,
    pub predict_only: bool,
    pub skip_hearing_test: bool,
    pub keep_audio: bool,
    pub audio: Vec<String>,
    pub report_to: Option<Names>,
    pub demo: bool,
    pub offline: bool,
    /// What a run's own file records about how the run was made.
    pub resolved: Option<Value>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
    #[serde(skip)]
    path: PathBuf,
}

const KEYS: &[&str] = &[
    "model",
    "task",
    "judge",
    "model-settings",
    "task-settings",
    "judge-settings",
    "limit",
    "sample-id",
    "shard",
    "role",
    "transcriber",
    "transcriber-prompt",
    "lora",
    "seed",
    "chains",
    "batch-size",
    "workers",
    "out",
    "fail-on-error",
    "time-limit",
    "predict-only",
    "skip-hearing-test",
    "keep-audio",
    "audio",
    "report-to",
    "demo",
    "offline",
];
/// Keys of a run's own file that are for people and never read.
const PASSED_OVER: &[&str] = &["host_version"];

impl Config {
    pub fn read(path: &Path) -> Result<Config> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .or_fail(Exit::Usage, || format!("cannot read the configuration `{shown}`"))?;
        let mut config: Config =
            toml::from_str(&text).or_fail(Exit::Usage, || format!("the configuration `{shown}` is malformed"))?;
        if let Some(key) = config.unknown.keys().find(|key| !PASSED_OVER.contains(&key.as_str())) {
            let failure = Failure::usage(format!("unknown key `{key}` in the configuration `{shown}`"));
            return Err(failure.help(nearest_hint(key, KEYS.iter().copied())));
        }
        config.path = path.to_owned();
        Ok(config)
    }

    /// An empty file at this place.
    pub fn at(path: &Path) -> Config {
        Config {
            path: path.to_owned(),
            ..Config::default()
        }
    }

    /// Changes to clips before the model hears them. Relative paths start from the file's folder.
    pub fn changes(&self) -> Result<Vec<Intervention>> {
        changes(&self.audio, &self.folder())
    }

    fn folder(&self) -> PathBuf {
        let path = std::path::absolute(&self.path).ok();
        path.and_then(|path| path.parent().map(Path::to_owned))
            .unwrap_or_default()
    }

    /// One of its settings tables. Relative paths start from the file's folder.
    pub fn given(&self, table: &Map<String, Value>) -> BTreeMap<String, Given> {
        let base = self.folder();
        let given = |value: &Value| Given {
            value: value.clone(),
            base: base.clone(),
            place: self.path.display().to_string(),
        };
        table.iter().map(|(key, value)| (key.clone(), given(value))).collect()
    }
}

/// Parses the changes that `--audio` asks for. Fails when a file that one of them names is not a clip.
pub fn changes(texts: &[String], folder: &Path) -> Result<Vec<Intervention>> {
    let changes = texts
        .iter()
        .map(|text| Ok(Intervention::parse(text)?.from_folder(folder)));
    let changes = changes.collect::<Result<Vec<_>>>()?;
    sample_clips::identity(&changes)?;
    Ok(changes)
}
