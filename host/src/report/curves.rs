//! Curves: losses of trainings, consistency of faithfulness sweeps.

use crate::run::store::directory::read_if_there;
use serde_json::Value;
use std::path::Path;

/// A training's log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Training {
    pub name: String,
    /// Step and loss.
    pub loss: Vec<(f64, f64)>,
    pub eval_loss: Vec<(f64, f64)>,
    pub learning_rate: Vec<(f64, f64)>,
}

impl Training {
    /// Reads `metrics.jsonl` of a training; a torn last line is skipped.
    pub fn read(path: &Path) -> Option<Training> {
        let text = read_if_there(&path.join("metrics.jsonl"))?;
        let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut training = Training {
            name: whole.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            ..Training::default()
        };
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else {
                continue;
            };
            let Some(step) = line["step"].as_f64() else { continue };
            let mut add = |key: &str, curve: fn(&mut Training) -> &mut Vec<(f64, f64)>| {
                if let Some(value) = line[key].as_f64() {
                    curve(&mut training).push((step, value));
                }
            };
            add("loss", |training| &mut training.loss);
            add("eval_loss", |training| &mut training.eval_loss);
            add("learning_rate", |training| &mut training.learning_rate);
        }
        Some(training)
    }
}

/// One experiment of a faithfulness sweep.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sweep {
    pub model: String,
    pub dataset: String,
    pub experiment: String,
    /// The place, the percentage of answers that stay the same, and their number.
    pub curve: Vec<(f64, f64, u64)>,
    pub consistency: Option<f64>,
    pub aoc: Option<f64>,
    pub aoc_interval: Option<(f64, f64)>,
    pub used: u64,
    /// What it shows, in a sentence.
    pub verdict: String,
}

impl Sweep {
    /// The experiments of a sweep's `results.json`, each against the baseline's answers.
    pub fn read(folder: &Path) -> Vec<Sweep> {
        let text = read_if_there(&folder.join("results.json"));
        let Some(figures) = text.and_then(|text| serde_json::from_str::<Value>(&text).ok()) else {
            return Vec::new();
        };
        let mut sweeps = Vec::new();
        for (model, datasets) in figures.as_object().into_iter().flatten() {
            for (dataset, experiments) in datasets.as_object().into_iter().flatten() {
                for (experiment, entry) in experiments.as_object().into_iter().flatten() {
                    let baseline = &entry["baseline"];
                    if !baseline.is_object() {
                        continue;
                    }
                    sweeps.push(Sweep {
                        model: model.clone(),
                        dataset: dataset.clone(),
                        experiment: experiment.clone(),
                        curve: serde_json::from_value(baseline["curve"].clone()).unwrap_or_default(),
                        consistency: baseline["consistency"].as_f64(),
                        aoc: baseline["aoc"].as_f64(),
                        aoc_interval: serde_json::from_value(baseline["aoc_interval"].clone()).ok(),
                        used: baseline["used"].as_u64().unwrap_or(0),
                        verdict: verdict(&entry["verdict"]),
                    });
                }
            }
        }
        sweeps
    }

    pub fn name(&self) -> String {
        format!("{}, {}: {}", self.model, self.dataset, self.experiment)
    }
}

fn verdict(value: &Value) -> String {
    let text = ["text", "sentence", "words"]
        .iter()
        .find_map(|key| value[*key].as_str());
    text.or_else(|| value.as_str()).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_is_read_up_to_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let lines = "{\"type\":\"train\",\"step\":1,\"loss\":2.5,\"learning_rate\":0.1}\n\
                     {\"type\":\"eval\",\"step\":1,\"eval_loss\":2.0}\n{\"step\":2,\"lo";
        std::fs::write(folder.path().join("metrics.jsonl"), lines).unwrap();
        let training = Training::read(folder.path()).unwrap();
        assert_eq!(
            (training.loss, training.eval_loss),
            (vec![(1.0, 2.5)], vec![(1.0, 2.0)])
        );
        assert_eq!(Training::read(&folder.path().join("none")), None);
    }
}
