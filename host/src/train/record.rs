//! The files that a run writes during training, with the names and formats of well-known scripts.

use crate::failure::{Failure, Result};
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const METRICS: &str = "metrics.jsonl";
pub const TRAIN_LOSS: &str = "train_loss.log";
pub const EVAL_LOSS: &str = "eval_loss.log";
pub const GENERATIONS: &str = "eval_generations.jsonl";

/// A run's log files. All but [`GENERATIONS`] are derived from the logged entries, so a run that continues from a checkpoint
/// writes them again up to there, and later entries are gone.
pub struct Record {
    folder: PathBuf,
    failed: Option<Failure>,
}

impl Record {
    pub fn new(folder: &Path) -> Record {
        Record {
            folder: folder.to_owned(),
            failed: None,
        }
    }

    /// Starts with the entries that were logged before, up to this step. If generations are `due` there, those that a
    /// later run has already made go as well.
    pub fn begin(&mut self, history: &[Map<String, Value>], step: u64, due: bool) {
        for (name, line) in FILES {
            let text: String = history.iter().filter_map(line).collect();
            let written = whole(&self.folder.join(name), text.as_bytes());
            self.note(name, written);
        }
        let path = self.folder.join(GENERATIONS);
        if let Ok(bytes) = std::fs::read(&path) {
            let text = String::from_utf8_lossy(&bytes);
            // A run that starts over has no history. A kill may have left half a line.
            let stays = |line: &&str| {
                let at = serde_json::from_str(line)
                    .ok()
                    .and_then(|line: Value| line["step"].as_u64());
                !history.is_empty() && at.is_some_and(|at| at < step || at == step && !due)
            };
            let kept: String = text.lines().filter(stays).map(|line| format!("{line}\n")).collect();
            let written = whole(&path, kept.as_bytes());
            self.note(GENERATIONS, written);
        }
    }

    /// Writes what the run was told.
    pub fn args(&mut self, args: &Value) {
        if let Err(failure) = write_json(&self.folder.join("args.json"), args) {
            self.failed.get_or_insert(failure);
        }
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Map<String, Value>) {
        for (name, line) in FILES {
            if let Some(line) = line(entry) {
                self.append(name, &line);
            }
        }
    }

    /// Adds what the model answered to an evaluation lesson.
    pub fn add_generation(&mut self, entry: &Map<String, Value>) {
        let line = serde_json::to_string(entry).unwrap_or_default() + "\n";
        self.append(GENERATIONS, &line);
    }

    fn append(&mut self, name: &str, line: &str) {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join(name));
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        self.note(name, written);
    }

    fn note(&mut self, name: &str, written: std::io::Result<()>) {
        if let Err(why) = written {
            self.failed
                .get_or_insert_with(|| Failure::unwritable(&self.folder.join(name), why));
        }
    }

    /// The first file that could not be written.
    pub fn failed(&self) -> Option<&Failure> {
        self.failed.as_ref()
    }
}

type Line = fn(&Map<String, Value>) -> Option<String>;

const FILES: [(&str, Line); 3] = [
    (METRICS, metrics_line),
    (TRAIN_LOSS, train_line),
    (EVAL_LOSS, eval_line),
];

/// Whether a line is about held-out rows.
fn is_eval(entry: &Map<String, Value>) -> bool {
    entry.keys().any(|key| key.starts_with("eval_"))
}

fn metrics_line(entry: &Map<String, Value>) -> Option<String> {
    let mut line = Map::new();
    line.insert("type".to_owned(), json!(if is_eval(entry) { "eval" } else { "train" }));
    for key in ["step", "epoch"] {
        line.insert(key.to_owned(), entry.get(key).cloned().unwrap_or_default());
    }
    line.extend(
        entry
            .iter()
            .filter(|(key, _)| !["step", "epoch"].contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    Some(format!("{}\n", Value::Object(line)))
}

fn loss_line(entry: &Map<String, Value>, key: &str) -> Option<String> {
    let value = entry.get(key)?;
    let of = |key: &str| entry.get(key).map_or_else(String::new, Value::to_string);
    Some(format!("{}\t{}\t{key}\t{value}\n", of("step"), of("epoch")))
}

fn train_line(entry: &Map<String, Value>) -> Option<String> {
    loss_line(entry, "loss")
}

fn eval_line(entry: &Map<String, Value>) -> Option<String> {
    loss_line(entry, "eval_loss")
}

/// Writes a file so that nobody sees half of it.
pub fn whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let other = path.with_file_name(format!(".{name}.unfinished"));
    let written = File::create(&other).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written
        .and_then(|()| std::fs::rename(&other, path))
        .inspect_err(|_| drop(std::fs::remove_file(&other)))
}

/// Writes a value as JSON, so that nobody sees half of the file.
pub fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    whole(path, text.as_bytes()).map_err(|why| Failure::unwritable(path, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn files_have_the_lines_of_the_scripts() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::new(folder.path());
        record.begin(&[], 0, false);
        record.add(&entry(json!({ "loss": 0.1234567, "epoch": 0.5, "step": 10 })));
        record.add(&entry(json!({ "eval_loss": 2.5, "epoch": 0.5, "step": 10 })));
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(text(TRAIN_LOSS), "10\t0.5\tloss\t0.1234567\n");
        assert_eq!(text(EVAL_LOSS), "10\t0.5\teval_loss\t2.5\n");
        assert_eq!(
            text(METRICS),
            "{\"type\":\"train\",\"step\":10,\"epoch\":0.5,\"loss\":0.1234567}\n\
             {\"type\":\"eval\",\"step\":10,\"epoch\":0.5,\"eval_loss\":2.5}\n"
        );
        record.begin(&[entry(json!({ "loss": 1.0, "epoch": 0.1, "step": 1 }))], 1, false);
        assert_eq!(
            text(METRICS),
            "{\"type\":\"train\",\"step\":1,\"epoch\":0.1,\"loss\":1.0}\n"
        );
        assert_eq!(text(EVAL_LOSS), "");
    }

    #[test]
    fn generations_behind_the_step_that_a_run_goes_on_from_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(GENERATIONS);
        let mut record = Record::new(folder.path());
        record.begin(&[], 0, false);
        assert!(!path.exists(), "only who asks for them has the file");
        for step in [4, 8, 12] {
            record.add_generation(&entry(json!({ "step": step, "generated": "é\n" })));
        }
        let torn = std::fs::read_to_string(&path).unwrap() + "{\"step\":4,\"gen";
        std::fs::write(&path, torn).unwrap();
        let logged = entry(json!({ "eval_loss": 1.0, "step": 8 }));
        record.begin(std::slice::from_ref(&logged), 8, false);
        let line = |step: u64| format!("{{\"step\":{step},\"generated\":\"é\\n\"}}\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(4) + &line(8));
        record.begin(&[logged], 8, true);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(4));
        record.begin(&[], 0, false);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
    }
}
