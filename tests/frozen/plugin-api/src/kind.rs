//! The kinds of adapter.

use serde::{Deserialize, Serialize};

/// The kinds of adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers prompts.
    Model,
    /// Holds samples and scores replies.
    Task,
    /// Rules on replies.
    Judge,
}

impl Kind {
    /// The kind as a word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Model => "model",
            Kind::Task => "task",
            Kind::Judge => "judge",
        }
    }

    /// The kind of this word.
    pub fn from_word(word: &str) -> Option<Kind> {
        [Kind::Model, Kind::Task, Kind::Judge]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}
