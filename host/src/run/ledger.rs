//! Sums of a run's calls, read from its ledger: for each role how many were answered, what they cost, and what may have
//! been charged without an answer.
//!
//! The file is read instead of asking the models, since it holds what earlier sessions and all roles paid, judges
//! included.

use super::calls::LEDGER;
use super::store::directory::RunDirectory;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader};

/// A line of the ledger, as far as sums go; the answer in it is passed over.
#[derive(Deserialize)]
#[serde(default)]
struct Line {
    event: String,
    call: String,
    attempt: u32,
    role: String,
    class: String,
    most_dollars: Option<f64>,
    dollars: Option<f64>,
    maybe_dollars: Option<f64>,
    model_version: Option<String>,
    unix_ms: Option<u64>,
    price: Option<String>,
}

impl Default for Line {
    fn default() -> Self {
        Line {
            event: String::new(),
            call: String::new(),
            attempt: 0,
            role: "model".to_owned(),
            class: String::new(),
            most_dollars: None,
            dollars: None,
            maybe_dollars: None,
            model_version: None,
            unix_ms: None,
            price: None,
        }
    }
}

/// The sums of one role's calls.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
struct Sums {
    /// Attempts that were sent.
    sent: u64,
    answered: u64,
    /// Attempts that may or may not have been charged: without a reply, or with an unreadable one.
    maybe: u64,
    failed: u64,
    /// Answers without a price.
    unpriced: u64,
    dollars: f64,
    /// The most that the uncertain attempts may have cost.
    maybe_dollars: f64,
    /// The models that answered, and how often each.
    versions: BTreeMap<String, u64>,
    /// When the first and the last of them were sent, in milliseconds since 1970.
    first_unix_ms: Option<u64>,
    last_unix_ms: Option<u64>,
    /// The prices behind the dollars: since when each holds, and its source.
    prices: BTreeSet<String>,
}

/// The sums of a ledger by role.
fn sums(ledger: impl BufRead) -> BTreeMap<String, Sums> {
    let mut roles: BTreeMap<String, Sums> = BTreeMap::new();
    // Attempts without an answer so far: the role and the most it may cost. What remains is from a process that died.
    let mut open: HashMap<(String, u32), (String, f64)> = HashMap::new();
    for line in ledger.lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Line>(&line) else {
            continue;
        };
        let attempt = (line.call, line.attempt);
        if line.event == "sent" {
            let sums = roles.entry(line.role.clone()).or_default();
            sums.sent += 1;
            sums.first_unix_ms = sums.first_unix_ms.or(line.unix_ms);
            sums.last_unix_ms = line.unix_ms.or(sums.last_unix_ms);
            open.insert(attempt, (line.role, line.most_dollars.unwrap_or(0.0)));
            continue;
        }
        let role = open.remove(&attempt).map_or(line.role, |(role, _)| role);
        let sums = roles.entry(role).or_default();
        match line.class.as_str() {
            "answered" => {
                sums.answered += 1;
                sums.dollars += line.dollars.unwrap_or(0.0);
                sums.unpriced += u64::from(line.dollars.is_none());
                sums.prices.extend(line.price);
                if let Some(version) = line.model_version {
                    *sums.versions.entry(version).or_default() += 1;
                }
            }
            "maybe" | "garbage" => {
                sums.maybe += 1;
                sums.maybe_dollars += line.maybe_dollars.unwrap_or(0.0);
            }
            _ => sums.failed += 1,
        }
    }
    for (role, most) in open.into_values() {
        let sums = roles.entry(role).or_default();
        sums.maybe += 1;
        sums.maybe_dollars += most;
    }
    roles
}

/// The attempts of a role that may or may not have been charged.
pub fn maybe_charged(run: &RunDirectory, role: &str) -> u64 {
    let ledger = File::open(run.path.join(LEDGER)).ok();
    let sums = ledger.map(|file| sums(BufReader::new(file))).unwrap_or_default();
    sums.get(role).map_or(0, |sums| sums.maybe)
}

/// Puts the sums of a run's ledger into its results, if it has one.
pub fn note(results: &mut Value, run: &RunDirectory) {
    let Ok(file) = File::open(run.path.join(LEDGER)) else {
        return;
    };
    let sums = sums(BufReader::new(file));
    if !sums.is_empty() {
        results["host"]["calls"] = json!(sums);
    }
}

/// The sums for people, a line a role.
pub fn words(results: &Value) -> Vec<String> {
    let roles = results["host"]["calls"].as_object().into_iter().flatten();
    let line = |(role, sums): (&String, &Value)| {
        let count = |name: &str| sums[name].as_u64().unwrap_or(0);
        let dollars = |name: &str| sums[name].as_f64().unwrap_or(0.0);
        let mut text = format!("calls as `{role}`: {} answered", count("answered"));
        if count("unpriced") < count("answered") {
            text += &format!(" for {:.4} dollars", dollars("dollars"));
        }
        if count("maybe") > 0 {
            text += &format!(", {} more may have been charged", count("maybe"));
            if dollars("maybe_dollars") > 0.0 {
                text += &format!(", at most {:.4} dollars", dollars("maybe_dollars"));
            }
        }
        text
    };
    roles.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = r#"{"event": "sent", "call": "a", "attempt": 1, "role": "model", "most_dollars": 0.5, "unix_ms": 1000}
{"event": "sent", "call": "b", "attempt": 1, "role": "judge", "most_dollars": 0.5}
{"event": "got", "call": "a", "attempt": 1, "class": "answered", "dollars": 0.25, "price": "2026-01-01, a test", "model_version": "m-1", "reply": {"text": "x"}}
{"event": "sent", "call": "c", "attempt": 1, "role": "model", "most_dollars": 0.5}
{"event": "got", "call": "c", "attempt": 1, "class": "maybe", "maybe_dollars": 0.5}
{"event": "sent", "call": "c", "attempt": 2, "role": "model", "most_dollars": 0.5, "unix_ms": 3000}
{"event": "got", "call": "c", "attempt": 2, "class": "answered"}
{"event": "sent", "call": "d", "attempt": 1, "role": "mod"#;

    #[test]
    fn a_ledger_is_summed_up_by_role_and_what_never_came_back_may_have_been_charged() {
        let roles = sums(LINES.as_bytes());
        let model = &roles["model"];
        assert_eq!((model.sent, model.answered, model.maybe, model.unpriced), (3, 2, 1, 1));
        assert_eq!(
            (model.dollars, model.maybe_dollars, model.versions["m-1"]),
            (0.25, 0.5, 1)
        );
        assert_eq!((model.first_unix_ms, model.last_unix_ms), (Some(1000), Some(3000)));
        assert_eq!(model.prices, BTreeSet::from(["2026-01-01, a test".to_owned()]));
        assert_eq!((roles["judge"].maybe, roles["judge"].maybe_dollars), (1, 0.5));
        let words = words(&json!({ "host": { "calls": roles } }));
        assert_eq!(
            words[0],
            "calls as `judge`: 0 answered, 1 more may have been charged, at most 0.5000 dollars"
        );
        assert_eq!(
            words[1],
            "calls as `model`: 2 answered for 0.2500 dollars, 1 more may have been charged, at most 0.5000 dollars"
        );
    }
}
