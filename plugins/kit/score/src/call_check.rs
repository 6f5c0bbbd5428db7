//! Compares two lists of tool calls without a grader.

use crate::calls::{Agreement, Calls, ToolCall, agreement, plain};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// How predicted calls agree with the expected ones, by name and by argument.
#[derive(Debug, Clone, PartialEq)]
pub struct CallCheck {
    pub agreement: Agreement,
    /// F1 of the longest common subsequence of tool names: order counts.
    pub names_lcs_f1: f64,
    /// F1 of the tool names as multisets: order does not count.
    pub names_f1: f64,
    /// For calls in the same position: the share of argument values that both have and that are equal.
    pub overlap: Option<f64>,
    /// The share of predicted calls whose tool is in the catalogue; none without a catalogue.
    pub known_tools: Option<f64>,
    /// Calls that begin but cannot be parsed.
    pub broken: usize,
}

impl CallCheck {
    /// Compares calls. `tools` are the names in the catalogue, if there is one.
    pub fn of(predicted: &Calls, gold: &Calls, tools: &[String]) -> CallCheck {
        let (mine, theirs) = (predicted.names(), gold.names());
        let overlaps: Vec<f64> = predicted
            .calls
            .iter()
            .zip(&gold.calls)
            .map(|(one, other)| overlap(one, other).0)
            .collect();
        let known = mine
            .iter()
            .filter(|name| tools.iter().any(|tool| tool == *name))
            .count();
        CallCheck {
            agreement: agreement(predicted, gold),
            names_lcs_f1: f1(common_sequence(&mine, &theirs), mine.len(), theirs.len()),
            names_f1: f1(common_names(&mine, &theirs), mine.len(), theirs.len()),
            overlap: (!overlaps.is_empty()).then(|| overlaps.iter().sum::<f64>() / overlaps.len() as f64),
            known_tools: (!tools.is_empty() && !mine.is_empty()).then(|| known as f64 / mine.len() as f64),
            broken: predicted.broken,
        }
    }

    /// The findings by name, for a record.
    pub fn to_json(&self) -> Map<String, Value> {
        let findings = json!({
            "names_equal": self.agreement.names, "names_lcs_f1": self.names_lcs_f1, "names_f1": self.names_f1,
            "exact": self.agreement.exact, "normalised": self.agreement.normalised, "overlap": self.overlap,
            "known_tools": self.known_tools, "broken": self.broken,
        });
        match findings {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

/// The share of equal leaves among all leaves of two calls' arguments, and the F1 of the equal ones. Case, blanks, and
/// whether numbers are written as text do not matter. Two calls without arguments overlap fully.
pub fn overlap(predicted: &ToolCall, gold: &ToolCall) -> (f64, f64) {
    let (mine, theirs) = (leaves(&predicted.arguments), leaves(&gold.arguments));
    let equal = mine
        .iter()
        .filter(|(path, value)| theirs.get(*path) == Some(value))
        .count();
    let union = mine.len() + theirs.keys().filter(|path| !mine.contains_key(*path)).count();
    match union {
        0 => (1.0, 1.0),
        union => (equal as f64 / union as f64, f1(equal, mine.len(), theirs.len())),
    }
}

/// Arguments as a flat map from paths to plain values, without nulls.
fn leaves(arguments: &Map<String, Value>) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(&format!("{path}.{}", name.trim().to_lowercase()), value, found);
                }
            }
            Value::Array(items) => {
                for (place, value) in items.iter().enumerate() {
                    walk(&format!("{path}[{place}]"), value, found);
                }
            }
            leaf => {
                found.insert(path.to_owned(), plain(leaf));
            }
        }
    }
    let mut found = BTreeMap::new();
    for (name, value) in arguments {
        walk(&name.trim().to_lowercase(), value, &mut found);
    }
    found
}

/// Two empty lists agree.
fn f1(common: usize, mine: usize, theirs: usize) -> f64 {
    match mine + theirs {
        0 => 1.0,
        sum => 2.0 * common as f64 / sum as f64,
    }
}

fn common_names(mine: &[&str], theirs: &[&str]) -> usize {
    let mut left: Vec<&str> = theirs.to_vec();
    let mut common = 0;
    for name in mine {
        if let Some(place) = left.iter().position(|other| other == name) {
            left.swap_remove(place);
            common += 1;
        }
    }
    common
}

/// The length of the longest common subsequence.
fn common_sequence(mine: &[&str], theirs: &[&str]) -> usize {
    let mut row = vec![0usize; theirs.len() + 1];
    for name in mine {
        let mut diagonal = 0;
        for (place, other) in theirs.iter().enumerate() {
            let above = row[place + 1];
            row[place + 1] = if name == other {
                diagonal + 1
            } else {
                above.max(row[place])
            };
            diagonal = above;
        }
    }
    row[theirs.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(list: Value) -> Calls {
        Calls::in_list(list.as_array().expect("a list"))
    }

    fn named(names: &[&str]) -> Calls {
        let call = |name: &&str| json!({ "name": name, "arguments": {} });
        calls(names.iter().map(call).collect())
    }

    #[test]
    fn names_are_compared_with_and_without_their_order() {
        let gold = named(&["search", "open", "calc"]);
        let check = CallCheck::of(&named(&["search", "calc", "open", "calc"]), &gold, &[]);
        assert!((check.names_f1 - 0.857_142_857).abs() < 1e-9, "{check:?}");
        let turned = CallCheck::of(&named(&["calc", "open", "search"]), &gold, &["calc".to_owned()]);
        assert_eq!((turned.names_f1, turned.known_tools), (1.0, Some(1.0 / 3.0)));
        assert!((turned.names_lcs_f1 - 1.0 / 3.0).abs() < 1e-9);
        let nothing = CallCheck::of(&named(&[]), &named(&[]), &[]);
        assert_eq!(
            (nothing.names_lcs_f1, nothing.names_f1, nothing.overlap),
            (1.0, 1.0, None)
        );
    }

    #[test]
    fn the_longest_common_sequence_of_three_tools_is_three() {
        let gold = ["search", "open", "calc"];
        assert_eq!(common_sequence(&["search", "calc", "open", "calc"], &gold), 3);
        let check = CallCheck::of(&named(&["search", "calc", "open", "calc"]), &named(&gold), &[]);
        assert!((check.names_lcs_f1 - 0.857_142_857).abs() < 1e-9, "{check:?}");
    }

    #[test]
    fn arguments_overlap_leaf_by_leaf() {
        let gold = calls(json!([{"name": "search", "arguments":
            {"query": "Paris population", "n": 5, "filters": {"lang": "en"}}}]));
        let predicted = calls(json!([{"name": "search", "arguments":
            {"query": "paris  population", "n": "5", "filters": {"lang": "fr"}, "page": 1}}]));
        let (share, leaf_f1) = overlap(&predicted.calls[0], &gold.calls[0]);
        assert_eq!(share, 0.5);
        assert!((leaf_f1 - 0.571_428_571).abs() < 1e-9, "{leaf_f1}");
        assert_eq!(CallCheck::of(&predicted, &gold, &[]).overlap, Some(0.5));
    }
}
