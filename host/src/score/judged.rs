//! Sums up a judge's rulings on a run: their mean, the unscored answers with reasons, the models, and the cost.

use super::panel::PanelTally;
use super::probes::Probes;
use crate::failure::Failure;
use crate::run::graded::GradedBy;
use crate::run::results::{Summary, metric_of};
use crate::run::statistics::Mean;
use crate::run::store::score::{JUDGED, ScoreEntry, ScoreStatus};
use plugin_api::{JudgeCard, Metric};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// With more unscored answers than this share a mean is not reliable: answers that a judge cannot rule on are rarely
/// like the rest.
const MOST_UNSCORED: f64 = 0.05;

/// A judge's results on a run.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// The name of its verdicts.
    pub name: String,
    protocol: String,
    version: String,
    mean: Mean,
    sum: f64,
    pub unscored: u64,
    pub failed: u64,
    pub dollars: f64,
    unpriced: u64,
    calls: u64,
    /// The number of verdicts by outcome.
    why: BTreeMap<String, u64>,
    /// The versions of the models that ruled.
    versions: BTreeMap<String, u64>,
    flags: BTreeMap<String, u64>,
    /// The several rulings on each answer, if a judge rules several times, with the number of answers.
    votes: BTreeMap<Vec<Option<String>>, u64>,
    /// How the members of a panel ruled.
    panel: PanelTally,
    /// What the verdicts depend on besides the records.
    identity: Value,
    /// The models that the judge asked.
    pub graded_by: GradedBy,
    /// True if the judging model is the one that answered.
    pub self_judged: bool,
    /// The engine behind each role that the judge asks: service, server, the name of the key's variable.
    pub engines: Map<String, Value>,
    /// Settings of its questions that the model does not take.
    sampling_ignored: BTreeSet<String>,
    /// What its card says about its questions: hashes of template and schema, the parser's version.
    asks: Map<String, Value>,
    /// How this judge ruled on answers with a known verdict, if it was shown any.
    pub probes: Option<Probes>,
    /// Why it did not rule on everything: its quota or budget is used up, or its model was abandoned.
    pub cut_short: Option<Failure>,
}

impl Judged {
    pub fn new(name: &str, card: &JudgeCard, identity: Value) -> Judged {
        Judged {
            name: name.to_owned(),
            protocol: card.name.clone(),
            version: card.version.clone(),
            identity,
            asks: card.other.clone(),
            ..Judged::default()
        }
    }

    /// Adds the verdict on one answer.
    pub fn add(&mut self, entry: &ScoreEntry, cluster: Option<&str>) {
        self.failed += u64::from(entry.status == ScoreStatus::Failed);
        self.graded_by.add(entry);
        let details = &entry.details;
        let number = |name: &str| details.get("cost").and_then(|cost| cost.get(name));
        let count = |name: &str| number(name).and_then(Value::as_u64).unwrap_or(0);
        self.dollars += number("dollars").and_then(Value::as_f64).unwrap_or(0.0);
        self.unpriced += count("unpriced");
        self.calls += count("calls");
        let why = details.get("why").and_then(Value::as_str).map(str::to_owned);
        let failed = || (entry.status == ScoreStatus::Failed).then(|| "failed".to_owned());
        if let Some(why) = why.or_else(failed) {
            *self.why.entry(why).or_default() += 1;
        }
        if let Some(version) = details.get("model_version").and_then(Value::as_str) {
            *self.versions.entry(version.to_owned()).or_default() += 1;
        }
        for flag in texts(details.get("flags")).into_iter().flatten() {
            *self.flags.entry(flag).or_default() += 1;
        }
        self.sampling_ignored
            .extend(texts(details.get("sampling_ignored")).into_iter().flatten());
        self.panel.add(details.get("panel"));
        let votes = texts(details.get("votes"));
        if !votes.is_empty() {
            *self.votes.entry(votes).or_default() += 1;
        }
        match (entry.status, entry.values.get(JUDGED)) {
            (ScoreStatus::Scored, Some(value)) => {
                self.sum += value;
                self.mean.add(*value, cluster);
            }
            _ => self.unscored += 1,
        }
    }

    /// The mean of what was scored.
    pub fn metric(&self) -> Metric {
        metric_of(&self.name, "judge", None, self.mean.estimate())
    }

    fn total(&self) -> u64 {
        self.metric().count + self.unscored
    }

    /// The mean if all unscored answers were wrong, and if all were right.
    pub fn bounds(&self) -> Option<(f64, f64)> {
        let total = self.total() as f64;
        (self.unscored > 0).then(|| (self.sum / total, (self.sum + self.unscored as f64) / total))
    }

    /// Why the figure should not be trusted.
    fn suspicions(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.unscored as f64 > MOST_UNSCORED * self.total() as f64 {
            why.push(format!("{} of {} answers are unscored", self.unscored, self.total()));
        }
        if self.versions.len() > 1 {
            let names: Vec<&str> = self.versions.keys().map(String::as_str).collect();
            why.push(format!("several versions of its model ruled: {}", names.join(", ")));
        }
        why.extend(self.panel.moved());
        why
    }

    /// The share of answers on which all rulings agree, and Krippendorff's alpha over them.
    fn agreement_with_itself(&self) -> Option<(f64, Option<f64>)> {
        self.votes.keys().map(Vec::len).max().filter(|most| *most > 1)?;
        let alike = self
            .votes
            .iter()
            .filter(|(votes, _)| votes.iter().all(|vote| *vote == votes[0]));
        let share = alike.map(|(_, times)| times).sum::<u64>() as f64 / self.votes.values().sum::<u64>() as f64;
        let cases = self.votes.iter().map(|(votes, times)| (votes.iter().flatten(), *times));
        Some((share, statistics::krippendorff_alpha_of(cases)))
    }

    /// Its entry in `host.judges` of `results.json`.
    pub fn as_json(&self) -> Value {
        let mut said = json!({
            "protocol": self.protocol, "version": self.version,
            "n": self.metric().count, "of": self.total(), "unscored": self.unscored, "failed": self.failed,
            "bounds": self.bounds(), "why": self.why, "model_versions": self.versions, "flags": self.flags,
            "calls": self.calls, "dollars": self.dollars, "unpriced_calls": self.unpriced,
            "suspect": self.suspicions(), "self_judged": self.self_judged,
            "identity": self.identity, "graders": self.graded_by.as_json(),
        });
        said["engines"] = json!(self.engines);
        said["sampling_ignored"] = json!(self.sampling_ignored);
        for (name, value) in &self.asks {
            said[name] = value.clone();
        }
        if let Some(probes) = &self.probes {
            said["probes"] = json!(probes);
        }
        if !self.panel.is_empty() {
            said["panel"] = self.panel.as_json();
        }
        if let Some((share, alpha)) = self.agreement_with_itself() {
            said["self_agreement"] = json!(share);
            said["self_alpha"] = json!(alpha);
        }
        said
    }

    /// Notes below the table.
    fn marks(&self) -> Vec<String> {
        let name = &self.name;
        let mut marks = Vec::new();
        marks.extend(self.probes.as_ref().map(|probes| probes.line(name)));
        if let Some((low, high)) = self.bounds() {
            let (scored, total) = (self.metric().count, self.total());
            marks.push(format!(
                "judge {name} left {} answers unscored: scored {scored} of {total}, between {low:.4} if all of them were \
                 wrong and {high:.4} if all were right",
                self.unscored
            ));
        }
        if self.failed > 0 {
            marks.push(format!(
                "judge {name} failed on {} answers; the same command asks again",
                self.failed
            ));
        }
        let suspicions = self.suspicions();
        if !suspicions.is_empty() {
            marks.push(format!("judge {name} is suspect: {}", suspicions.join("; ")));
        }
        if self.engines.values().any(|engine| engine["engine"]["unpinned"] == true) {
            marks.push(format!(
                "judge {name} asks a model by a floating name, which stands for another version some day (unpinned)"
            ));
        }
        if self.self_judged {
            marks.push(format!("judge {name} rules on its own answers (self_judged)"));
        }
        if let Some((share, alpha)) = self.agreement_with_itself() {
            let alpha = alpha.map_or_else(|| "not defined".to_owned(), |alpha| format!("{alpha:.4}"));
            marks.push(format!(
                "judge {name} agrees with itself on {share:.4} of the answers, alpha {alpha}"
            ));
        }
        if !self.panel.is_empty() {
            marks.extend(self.panel.lines(name));
        }
        marks
    }
}

/// The texts in a list.
fn texts(list: Option<&Value>) -> Vec<Option<String>> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.map(|item| item.as_str().map(str::to_owned)).collect()
}

/// Adds a judge's verdicts to the metrics.
pub fn add_judged(summary: &mut Summary, results: &mut Value, judged: &Judged) {
    let name = judged.name.as_str();
    let metric = judged.metric();
    let task = summary.task.clone();
    let into = &mut results["results"][&task];
    into[format!("{name},judge")] = json!(metric.value);
    into[format!("{name}_stderr,judge")] = metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
    into[format!("{name}_ci95,judge")] = json!(metric.interval);
    into[format!("{name}_n,judge")] = json!(metric.count);
    let key = format!("{name}_bounds,judge");
    match judged.bounds() {
        Some(bounds) => into[key] = json!(bounds),
        None => drop(into.as_object_mut().and_then(|map: &mut Map<_, _>| map.remove(&key))),
    }
    results["host"]["judges"][name] = judged.as_json();
    summary.marks.extend(judged.marks());
    if !judged.suspicions().is_empty() {
        summary.suspect_judges.push(name.to_owned());
    }
    summary.metrics.push(metric);
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::Verdict;

    /// A judge that ruled `right` times right and `wrong` times wrong, and could not rule on `unscored` answers.
    fn judged(right: u64, wrong: u64, unscored: u64) -> Judged {
        let mut judged = Judged::new("j", &JudgeCard::new("j", "1"), Value::Null);
        let times = |count, verdict: Verdict| (0..count).map(move |_| ScoreEntry::of_verdict(&verdict));
        let entries = times(right, Verdict::of(true, ""))
            .chain(times(wrong, Verdict::of(false, "")))
            .chain(times(unscored, Verdict::unscored("?")));
        entries.for_each(|entry| judged.add(&entry, None));
        judged
    }

    #[test]
    fn what_is_unscored_stays_out_of_the_mean_and_gives_bounds() {
        let judged = judged(11, 6, 3);
        assert!((judged.metric().value - 11.0 / 17.0).abs() < 1e-12);
        let (low, high) = judged.bounds().unwrap();
        assert!((low - 0.55).abs() < 1e-12 && (high - 0.70).abs() < 1e-12);
        assert_eq!(judged.suspicions(), ["3 of 20 answers are unscored"]);
    }

    #[test]
    fn a_judge_that_ruled_on_everything_has_no_bounds() {
        let judged = judged(2, 2, 0);
        assert_eq!(judged.bounds(), None);
        assert_eq!(judged.marks(), Vec::<String>::new());
    }

    #[test]
    fn rulings_on_one_answer_are_held_against_each_other() {
        let mut judged = judged(0, 0, 0);
        for votes in [
            json!(["a", "a"]),
            json!(["a", "b"]),
            json!(["b", "b"]),
            json!(["b", "b"]),
        ] {
            let mut verdict = Verdict::of(true, "");
            verdict.other.insert("votes".to_owned(), votes);
            judged.add(&ScoreEntry::of_verdict(&verdict), None);
        }
        let (share, alpha) = judged.agreement_with_itself().unwrap();
        assert!((share - 0.75).abs() < 1e-12);
        assert!(alpha.unwrap() > 0.3 && alpha.unwrap() < 0.7, "{alpha:?}");
    }
}
