//! All labels, for prompts.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The labels of the published data; the file names its authors and its licence.
const PUBLISHED: &str = include_str!("../labels.json");

/// All scenarios, actions and entity types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The actions of each scenario.
    pub actions_by_scenario: BTreeMap<String, Vec<String>>,
    /// The entity types.
    pub entity_types: Vec<String>,
}

impl Inventory {
    /// The labels of the published data.
    pub fn published() -> Inventory {
        let file: Value = serde_json::from_str(PUBLISHED).expect("a file of this crate");
        let words = |value: &Value| -> Vec<String> {
            let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            words.map(str::to_owned).collect()
        };
        let scenarios = file["actions_by_scenario"].as_object().into_iter().flatten();
        Inventory {
            actions_by_scenario: scenarios
                .map(|(name, actions)| (name.clone(), words(actions)))
                .collect(),
            entity_types: words(&file["entity_types"]),
        }
    }

    /// The scenarios.
    pub fn scenarios(&self) -> Vec<&str> {
        self.actions_by_scenario.keys().map(String::as_str).collect()
    }

    /// The actions of all scenarios, each once.
    pub fn actions(&self) -> Vec<&str> {
        let all: BTreeSet<&str> = self
            .actions_by_scenario
            .values()
            .flatten()
            .map(String::as_str)
            .collect();
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_labels_as_the_paper_counts() {
        let labels = Inventory::published();
        let counts = (
            labels.scenarios().len(),
            labels.actions().len(),
            labels.entity_types.len(),
        );
        assert_eq!(counts, (18, 46, 55));
        let intents: usize = labels.actions_by_scenario.values().map(Vec::len).sum();
        assert_eq!(intents, 60);
    }
}
