//! Who graded: counts of the models that scorers asked.

use super::store::score::{Grader, Graders, ScoreEntry};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The models that one scorer asked, by role and identity, and the number of records.
#[derive(Debug, Clone, Default)]
pub struct GradedBy(BTreeMap<String, BTreeMap<String, (String, u64)>>);

impl GradedBy {
    pub fn add(&mut self, entry: &ScoreEntry) {
        for (role, grader) in &entry.graders {
            let models = self.0.entry(role.clone()).or_default();
            let known = models.entry(grader.identity.clone()).or_default();
            known.0.clone_from(&grader.model);
            known.1 += 1;
        }
    }

    /// `{"judge": [{"model": "qwen3", "identity": "…", "answers": 20}]}`
    pub fn as_json(&self) -> Value {
        let role = |(role, models): (&String, &BTreeMap<String, (String, u64)>)| {
            let one = |(identity, (model, answers)): (&String, &(String, u64))| json!({ "model": model, "identity": identity, "answers": answers });
            (role.clone(), models.iter().map(one).collect())
        };
        Value::Object(self.0.iter().map(role).collect())
    }
}

/// Who graded, in words, from `results.json`: `count asked `qwen3` as judge about 20 answers`.
pub fn in_words(results: &Value) -> Vec<String> {
    let empty = Map::new();
    let host = &results["host"];
    let mut words = Vec::new();
    for (scorer, found) in ["scorers", "judges"]
        .iter()
        .flat_map(|kind| host[kind].as_object().unwrap_or(&empty))
    {
        for (role, models) in found["graders"].as_object().unwrap_or(&empty) {
            for grader in models.as_array().into_iter().flatten() {
                let (model, answers) = (grader["model"].as_str().unwrap_or_default(), &grader["answers"]);
                words.push(match model.is_empty() {
                    true => format!("{scorer} found no model to ask as {role} about {answers} answers"),
                    false => format!("{scorer} asked `{model}` as {role} about {answers} answers"),
                });
            }
        }
    }
    words
}

/// The graders of a scorer as `results.json` has them, without roles that several models played.
pub fn graders_of(scorer: &Value) -> Graders {
    let empty = Map::new();
    let roles = scorer["graders"].as_object().unwrap_or(&empty);
    let one = |(role, models): (&String, &Value)| match models.as_array().map(Vec::as_slice) {
        Some([only]) => {
            let text = |name: &str| only[name].as_str().unwrap_or_default().to_owned();
            let grader = Grader {
                model: text("model"),
                identity: text("identity"),
            };
            Some((role.clone(), grader))
        }
        _ => None,
    };
    roles.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_graded_is_counted_by_role_and_model() {
        let graders = |identity: &str| -> Graders {
            let grader = Grader {
                model: "m".to_owned(),
                identity: identity.to_owned(),
            };
            [("judge".to_owned(), grader)].into()
        };
        let mut graded = GradedBy::default();
        for identity in ["x", "x"] {
            graded.add(&ScoreEntry::default().by("s", None, graders(identity)));
        }
        let found = json!({ "graders": graded.as_json() });
        assert_eq!(found["graders"]["judge"][0]["answers"], 2);
        assert_eq!(graders_of(&found), graders("x"));
        let results = json!({ "host": { "judges": { "j": found } } });
        assert_eq!(in_words(&results), ["j asked `m` as judge about 2 answers"]);
        graded.add(&ScoreEntry::default().by("s", None, graders("y")));
        assert!(graders_of(&json!({ "graders": graded.as_json() })).is_empty());
    }
}
