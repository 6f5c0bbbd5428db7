//! What tasks say of themselves.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One metric of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MetricCard {
    /// What it is called in [`crate::Score::values`].
    pub name: String,
    /// False when less is better.
    pub higher_is_better: bool,
}

impl Default for MetricCard {
    fn default() -> Self {
        MetricCard {
            name: String::new(),
            higher_is_better: true,
        }
    }
}

/// What a task says of itself, with the settings it was made with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskCard {
    /// What it is called in results.
    pub name: String,
    /// Changes when a score could.
    pub version: String,
    /// Which part of the data is in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Its metrics, the main one first.
    pub metrics: Vec<MetricCard>,
    /// How answers are read before they are scored; `none` when they are taken as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// How many worked examples stand before each question.
    pub shots: u32,
    /// True when its prompts hold clips.
    pub has_clips: bool,
    /// True when it needs a model that scores options.
    pub needs_choices: bool,
    /// The judge that suits its answers, by name: `match`, `winner`. The judge `auto` stands for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// What this version has no name for.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl TaskCard {
    /// A task whose one metric is `acc`.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        TaskCard {
            name: name.into(),
            version: version.into(),
            ..TaskCard::default()
        }
        .with_metrics(["acc"])
    }

    /// The same task with these metrics, the main one first.
    pub fn with_metrics<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let card = |name: S| MetricCard {
            name: name.into(),
            ..MetricCard::default()
        };
        self.metrics = names.into_iter().map(card).collect();
        self
    }
}
