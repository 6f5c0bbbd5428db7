//! The splits of a task that a run needs: for training, evaluation and the test.

use super::options::Options;
use crate::catalog::{Catalog, Resolved};
use crate::failure::{Failure, Result};
use crate::registry::Given as Setting;
use plugin_api::client::TaskClient;
use plugin_api::{AdapterNote, Kind};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A split of a task's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Train,
    Eval,
    Test,
}

impl Part {
    /// The setting that names its file, and the words for it in tasks.
    fn words(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Part::Train => ("train_file", &["train"]),
            Part::Eval => ("eval_file", &["validation", "devel", "dev"]),
            Part::Test => ("test_file", &["test"]),
        }
    }
}

/// A task, with its card's data about training.
pub struct TaskSet {
    pub name: String,
    note: AdapterNote,
    flags: BTreeMap<String, Setting>,
    files: BTreeMap<&'static str, PathBuf>,
    /// The card's data: `task`, settings of the script; `lessons`, those of its lessons alone, `demo_lessons` in a
    /// demo; `defaults` and `demo`, training settings; `exports`, `settings` and `metrics`, of the test.
    training: Value,
    demo: bool,
}

/// The script's names of the task's settings, and the names here.
const TASK_SETTINGS: [(&str, &str); 8] = [
    ("input_mode", "inputs"),
    ("target_field", "target"),
    ("task_instruction", "instruction"),
    ("noisy_text_distractors", "noisy_text_distractors"),
    ("noisy_table_distractors", "noisy_table_distractors"),
    ("noisy_context_seed", "noisy_context_seed"),
    ("audio_dir", "audio"),
    ("generation_max_new_tokens", "max_tokens"),
];

impl TaskSet {
    pub fn new(name: &str, options: &Options, catalog: &Catalog) -> Result<TaskSet> {
        options.task_flags.check_names(Kind::Task, &[name.to_owned()])?;
        let spec = catalog.registry.adapter(Kind::Task, name)?;
        let note = catalog.plugin_note(spec)?;
        let mut set = TaskSet {
            name: name.to_owned(),
            flags: options.task_flags.of(name),
            files: BTreeMap::new(),
            training: Value::Null,
            demo: options.demo,
            note,
        };
        for part in [Part::Train, Part::Eval, Part::Test] {
            let (file, _) = part.words();
            if let Some(path) = options.given.text(file) {
                set.files.insert(file, PathBuf::from(path));
            }
        }
        // All splits of a task have the same data about training. The script's own settings come first, because a name
        // may have another meaning in them.
        set.read_card(catalog)?;
        let defaults = set.training["task"].as_object().cloned().unwrap_or_default();
        for (script, ours) in TASK_SETTINGS {
            let Some(value) = options.given.get(script) else {
                continue;
            };
            if !set.has(ours) {
                let failure = Failure::usage(format!("task `{name}` has no setting for `{script}`"));
                return Err(failure.help(format!("`host ls tasks --verbose` lists the settings of `{name}`")));
            }
            set.flags
                .entry(ours.to_owned())
                .or_insert_with(|| here(value.clone(), script));
        }
        for (key, value) in defaults {
            if set.has(&key) {
                set.flags.entry(key).or_insert_with(|| here(value, "the task's script"));
            }
        }
        set.read_card(catalog)?;
        Ok(set)
    }

    fn read_card(&mut self, catalog: &Catalog) -> Result<()> {
        let (_, task) = self.made(Part::Train, catalog)?;
        self.training = task.card()?.other.get("training").cloned().unwrap_or_default();
        Ok(())
    }

    fn has(&self, option: &str) -> bool {
        self.note.options.iter().any(|known| known.name == option)
    }

    /// Training settings of the collection's script.
    pub fn defaults(&self, demo: bool) -> Map<String, Value> {
        let table = |key: &str| self.training[key].as_object().cloned().unwrap_or_default();
        let mut defaults = table("defaults");
        if demo {
            defaults.extend(table("demo"));
        }
        defaults
    }

    /// The formats in which the test's results are also written.
    pub fn exports(&self) -> Vec<String> {
        let formats = self.training["exports"].as_array().into_iter().flatten();
        formats
            .filter_map(|format| format.as_str().map(str::to_owned))
            .collect()
    }

    /// The task's settings under the names of the collection's script, with their values in the test.
    pub fn script_settings(&self) -> Map<String, Value> {
        let names = self.training["settings"].as_object().cloned().unwrap_or_default();
        let mut all: Map<String, Value> = names
            .iter()
            .filter_map(|(script, ours)| Some((script.clone(), self.holds(ours.as_str()?)?)))
            .collect();
        if let Some(most) = self.holds("max_tokens") {
            all.insert("generation_max_new_tokens".to_owned(), most);
        }
        if let Some(file) = self.files.get("test_file") {
            all.insert("test_file".to_owned(), json!(file));
        }
        all
    }

    /// The script's name of a figure of this task, if it is another one.
    pub fn script_metric(&self, name: &str) -> Option<String> {
        let names = self.training["metrics"].as_object()?;
        let (script, _) = names.iter().find(|(_, ours)| ours.as_str() == Some(name))?;
        Some(script.clone())
    }

    /// A setting as given, or its default.
    fn holds(&self, option: &str) -> Option<Value> {
        if let Some(given) = self.flags.get(option) {
            // The value of a flag is always text.
            let number = given.value.as_str().and_then(|text| text.parse::<u64>().ok());
            return Some(number.map_or_else(|| given.value.clone(), Value::from));
        }
        let option = self.note.options.iter().find(|known| known.name == option)?;
        Some(option.default.clone()).filter(|default| !default.is_null())
    }

    /// The settings of a split; none if there is no such split.
    pub fn settings(&self, part: Part) -> Option<BTreeMap<String, Setting>> {
        let mut settings = self.flags.clone();
        if part != Part::Test {
            // Settings of lessons, which do not concern questions. A demo may train on the samples that it is tested
            // with.
            let of_demo = self.training["demo_lessons"].as_object().filter(|_| self.demo);
            let lessons = of_demo.or(self.training["lessons"].as_object());
            for (key, value) in lessons.cloned().unwrap_or_default() {
                if self.has(&key) {
                    settings.entry(key).or_insert_with(|| here(value, "the task's script"));
                }
            }
        }
        let (file, words) = part.words();
        let split = self.note.options.iter().find(|option| option.name == "split");
        let word = split.and_then(|option| {
            words
                .iter()
                .find(|word| option.allowed.iter().any(|allowed| allowed == *word))
        });
        if let Some(path) = self.files.get(file) {
            settings.insert("data".to_owned(), here(path.display().to_string().into(), file));
            settings.remove("split");
            return Some(settings);
        }
        // If any file is named, splits without one are empty.
        if part != Part::Train && !self.files.is_empty() && !self.flags.contains_key("data") {
            return None;
        }
        match (word, part) {
            // A single file is one split; a folder or hub id has several.
            (Some(_), Part::Train) if settings.contains_key("split") => {}
            (Some(word), _) if !self.is_one_file(&settings) => {
                settings.insert("split".to_owned(), here(json!(word), "host train"));
            }
            (_, Part::Train) => {}
            (_, Part::Eval) => return None,
            (_, Part::Test) => {}
        }
        Some(settings)
    }

    fn is_one_file(&self, settings: &BTreeMap<String, Setting>) -> bool {
        let data = settings
            .get("data")
            .and_then(|given| Some(given.base.join(given.value.as_str()?)));
        data.is_some_and(|path| Path::new(&path).is_file())
    }

    fn made(&self, part: Part, catalog: &Catalog) -> Result<(Resolved, TaskClient)> {
        let settings = self.settings(part).unwrap_or_default();
        let resolved = catalog.resolve(Kind::Task, &self.name, &settings)?;
        let task = resolved.task()?;
        Ok((resolved, task))
    }

    /// Makes the task for a split; none if its data has no such split.
    pub fn make(&self, part: Part, catalog: &Catalog) -> Result<Option<(Resolved, TaskClient)>> {
        if self.settings(part).is_none() {
            return Ok(None);
        }
        match self.made(part, catalog) {
            Ok(made) => Ok(Some(made)),
            // Many data sets have no split for evaluation; a named one must exist.
            Err(_) if part == Part::Eval && !self.files.contains_key("eval_file") => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The entries for `args.json`.
    pub fn described(&self) -> Value {
        let flags = self.flags.iter().map(|(key, given)| (key.clone(), given.value.clone()));
        let files = self.files.iter().map(|(key, path)| ((*key).to_owned(), json!(path)));
        Value::Object(flags.chain(files).collect())
    }
}

fn here(value: Value, place: &str) -> Setting {
    Setting {
        value,
        base: std::env::current_dir().unwrap_or_default(),
        place: place.to_owned(),
    }
}
