//! What a sweep asks: experiments, their points, and everything that its answers depend on.

use crate::audio::interventions::Intervention;
use faithfulness::experiment::{Experiment, Scale};
use faithfulness::family::Family;
use faithfulness::import::Point;
use faithfulness::reasoning::Sanitizer;
use faithfulness::split::Splitter;
use faithfulness::texts::Filler;
use serde_json::{Value, json};
use std::path::PathBuf;

/// How a sweep is made.
#[derive(Debug, Clone)]
pub struct Plan {
    pub experiments: Vec<Experiment>,
    pub splitter: Splitter,
    pub sanitizer: Option<Sanitizer>,
    pub family: Family,
    pub filler: Filler,
    pub seed: u64,
    /// Only chains of at most this many sentences.
    pub max_sentences: Option<usize>,
    /// Chains below this number only.
    pub num_chains: Option<u64>,
    /// Only the first questions, this many.
    pub limit: Option<usize>,
    /// Percentages in place of the published ones.
    pub points: Option<Vec<f64>>,
    /// Levels of noise in dB.
    pub levels: Vec<f64>,
    /// Where masks lie, and what fills them.
    pub masks: Vec<(String, String)>,
    /// Who writes mistakes and paraphrases: `self`, or a model of the registry.
    pub writer: String,
    /// What was written beforehand.
    pub perturbations: Option<PathBuf>,
    /// Spoken hints: a folder or manifest of clips.
    pub hints: Option<PathBuf>,
    pub keep_audio: bool,
}

impl Plan {
    /// What changes answers, for the directory's name and the provenance.
    pub fn identity(&self) -> Value {
        json!({
            "splitter": self.splitter.name(),
            "splitter_version": self.splitter.version(),
            "sanitizer": self.sanitizer.map(Sanitizer::name),
            "family": self.family.name(),
            "family_hash": self.family.hash(),
            "filler": format!("{:?}", self.filler).to_lowercase(),
            "seed": self.seed,
            "writer": self.writer,
            "perturbations": self.perturbations.as_ref().and_then(|path| file_hash(path)),
            "hints": self.hints.as_ref().and_then(|path| file_hash(path)),
        })
    }

    /// The percentages of an experiment.
    pub fn percentages(&self, experiment: Experiment) -> Vec<f64> {
        match &self.points {
            Some(points) => points.clone(),
            None => experiment
                .percentages()
                .unwrap_or_default()
                .into_iter()
                .map(f64::from)
                .collect(),
        }
    }

    /// The points of an experiment on a chain, by its number of sentences.
    pub fn points(&self, experiment: Experiment, sentences: usize) -> Vec<Point> {
        let whole = |range: std::ops::RangeInclusive<usize>| range.map(|k| Point::At(k as f64)).collect();
        match experiment.scale() {
            Scale::Sentences => whole(0..=sentences),
            Scale::Positions => whole(1..=sentences),
            Scale::Percent => self.percentages(experiment).into_iter().map(Point::At).collect(),
            Scale::Decibels => {
                let noisy = self.levels.iter().map(|level| Point::At(*level));
                std::iter::once(Point::Clean).chain(noisy).collect()
            }
            Scale::None => vec![Point::Only],
        }
    }

    /// What a clip goes through at a point of an experiment on the sound.
    pub fn changes(&self, experiment: Experiment, condition: &str, point: Point) -> Vec<Intervention> {
        let seed = self.seed_of_sound();
        let words = match (experiment, point) {
            (Experiment::AudioMasking, Point::At(percent)) => {
                let (kind, mode) = condition.split_once('_').unwrap_or((condition, "random"));
                format!("mask:percent={percent},mode={mode},type={kind},seed={seed}")
            }
            (Experiment::Snr, Point::At(level)) => format!("noise:snr={level},seed={seed}"),
            (Experiment::Swap, _) => format!("swap:seed={seed}"),
            _ => return Vec::new(),
        };
        Intervention::parse(&words).into_iter().collect()
    }

    /// The seed of the published masks, unless another was asked for.
    pub fn seed_of_sound(&self) -> u64 {
        if self.seed == 0 { 42 } else { self.seed }
    }
}

fn file_hash(path: &std::path::Path) -> Option<String> {
    crate::fingerprint::fingerprint(path)
        .ok()
        .map(|hash| json!(hash).to_string())
}
