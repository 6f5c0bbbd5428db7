//! Compares a judge's verdicts with people's labels: how far the judge can be trusted, and what its accuracy is worth.

use crate::failure::{Exit, Failure, Result};
use crate::run::recorded::Recorded;
use crate::run::store::score::{JUDGED, judge_key};
use serde::Serialize;
use serde_json::{Value, json};
use statistics::Estimate;
use std::collections::BTreeMap;
use std::path::Path;

/// The 97.5% quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Reads people's labels: a line each of `{"sample_id": "…", "right": true}`, or a JSON list of the same.
pub fn read(path: &Path) -> Result<BTreeMap<String, bool>> {
    let place = |line: usize| format!("`{}` line {line}", path.display());
    let text = std::fs::read_to_string(path)
        .map_err(|why| Failure::missing(format!("cannot read the labels `{}`", path.display())).cause(why))?;
    let rows: Vec<(usize, Value)> = match serde_json::from_str::<Vec<Value>>(&text) {
        Ok(list) => list
            .into_iter()
            .enumerate()
            .map(|(place, row)| (place + 1, row))
            .collect(),
        Err(_) => {
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let parse = |(number, line): (usize, &str)| {
                let row = serde_json::from_str(line).map_err(|why| {
                    Failure::new(Exit::Missing, format!("{} is not JSON", place(number + 1))).cause(why)
                })?;
                Ok((number + 1, row))
            };
            lines.map(parse).collect::<Result<_>>()?
        }
    };
    let mut labels = BTreeMap::new();
    for (number, row) in rows {
        let wrong = |what: &str| {
            let failure = Failure::new(Exit::Missing, format!("{}: {what}", place(number)));
            failure.help("each label is `{\"sample_id\": \"…\", \"right\": true}`")
        };
        let Some(id) = row["sample_id"].as_str() else {
            return Err(wrong("`sample_id` is missing or no text"));
        };
        let right = match &row["right"] {
            Value::Bool(right) => *right,
            Value::Number(number) if number.as_f64() == Some(1.0) => true,
            Value::Number(number) if number.as_f64() == Some(0.0) => false,
            other => return Err(wrong(&format!("`right` is {other}, expected true or false"))),
        };
        if labels.insert(id.to_owned(), right).is_some_and(|known| known != right) {
            return Err(wrong(&format!("sample `{id}` is labelled right and wrong")));
        }
    }
    match labels.is_empty() {
        true => Err(Failure::missing(format!("`{}` holds no label", path.display()))),
        false => Ok(labels),
    }
}

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Corrected {
    pub value: f64,
    pub stderr: f64,
    pub ci95: (f64, f64),
}

impl From<Estimate> for Corrected {
    fn from(estimate: Estimate) -> Corrected {
        let (value, stderr) = (estimate.value, estimate.stderr);
        Corrected {
            value,
            stderr,
            ci95: ((value - Z * stderr).max(0.0), (value + Z * stderr).min(1.0)),
        }
    }
}

/// A share with Wilson's interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    pub value: f64,
    pub ci95: (f64, f64),
    pub n: u64,
}

fn share(part: u64, n: u64) -> Option<Share> {
    (n > 0).then(|| {
        let value = part as f64 / n as f64;
        Share {
            value,
            ci95: statistics::wilson(value, n as f64),
            n,
        }
    })
}

/// The quality of a judge's verdicts.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Checked {
    pub judge: String,
    /// Labels whose sample the judge ruled on.
    pub n: u64,
    pub agreement: Option<Share>,
    /// The share of truly right answers that the judge called right, and of truly wrong ones that it called wrong.
    pub sensitivity: Option<Share>,
    pub specificity: Option<Share>,
    pub kappa: Option<f64>,
    pub ac1: Option<f64>,
    pub alpha: Option<f64>,
    /// The judge's own figure over the whole run.
    pub judged: Option<Share>,
    /// The same, corrected for the judge's errors; none if it errs too often for a correction.
    pub corrected: Option<Corrected>,
    /// The judge's mean, adjusted by people's labels (prediction-powered inference).
    pub prediction_powered: Option<Corrected>,
    /// Labels whose sample the judge left unscored, and labels of samples that the run doesn't have.
    pub unscored: Vec<String>,
    pub unknown: Vec<String>,
    /// Samples on which the judge and people disagree.
    pub called_right_wrongly: Vec<String>,
    pub called_wrong_wrongly: Vec<String>,
}

impl Checked {
    /// Compares one judge's verdicts on a run with labels. If a sample has several chains, each verdict counts.
    pub fn of(run: &Recorded, judge: &str, labels: &BTreeMap<String, bool>) -> Result<Checked> {
        let mut verdicts = Vec::new();
        run.each(|record| {
            let entry = record.scores.get(&judge_key(judge, &record.task));
            let value = entry.and_then(|entry| entry.values.get(JUDGED)).copied();
            verdicts.push((record.sample_id, value));
            Ok(())
        })?;
        Ok(Checked::of_verdicts(judge, &verdicts, labels))
    }

    fn of_verdicts(judge: &str, verdicts: &[(String, Option<f64>)], labels: &BTreeMap<String, bool>) -> Checked {
        let mut checked = Checked {
            judge: judge.to_owned(),
            ..Checked::default()
        };
        let mut pairs: Vec<(bool, bool)> = Vec::new();
        let (mut people, mut machine): (Vec<Option<bool>>, Vec<Option<bool>>) = (Vec::new(), Vec::new());
        let mut all = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (id, value) in verdicts {
            let says = value.map(|value| value >= 0.5);
            all.extend(value.map(|value| value.clamp(0.0, 1.0)));
            let Some(label) = labels.get(id) else { continue };
            seen.insert(id);
            people.push(Some(*label));
            machine.push(says);
            match says {
                None => checked.unscored.push(id.clone()),
                Some(says) => {
                    pairs.push((*label, says));
                    match (*label, says) {
                        (false, true) => checked.called_right_wrongly.push(id.clone()),
                        (true, false) => checked.called_wrong_wrongly.push(id.clone()),
                        _ => {}
                    }
                }
            }
        }
        checked.unknown = labels.keys().filter(|id| !seen.contains(id)).cloned().collect();
        let count = |label: bool, says: bool| pairs.iter().filter(|pair| **pair == (label, says)).count() as u64;
        let right = (count(true, true), count(true, true) + count(true, false));
        let wrong = (count(false, false), count(false, false) + count(false, true));
        checked.n = pairs.len() as u64;
        checked.agreement = share(right.0 + wrong.0, checked.n);
        checked.sensitivity = share(right.0, right.1);
        checked.specificity = share(wrong.0, wrong.1);
        checked.kappa = statistics::cohen_kappa(&pairs);
        checked.ac1 = statistics::gwet_ac1(&pairs);
        checked.alpha = statistics::krippendorff_alpha(&[people, machine]);
        let called = (
            all.iter().filter(|value| **value >= 0.5).count() as u64,
            all.len() as u64,
        );
        checked.judged = share(called.0, called.1);
        checked.corrected = statistics::corrected_accuracy(called, right, wrong).map(Corrected::from);
        let number = |flag: bool| f64::from(u8::from(flag));
        let judged: Vec<f64> = all.iter().map(|value| number(*value >= 0.5)).collect();
        let both: Vec<(f64, f64)> = pairs
            .iter()
            .map(|(label, says)| (number(*label), number(*says)))
            .collect();
        checked.prediction_powered = statistics::prediction_powered_mean(&judged, &both).map(Corrected::from);
        checked
    }

    /// The figures as text.
    pub fn text(&self) -> String {
        let share = |name: &str, share: Option<Share>| match share {
            Some(Share { value, ci95, n }) => {
                format!("{name:<28} {value:.4} (95% {:.4} to {:.4}) of {n}\n", ci95.0, ci95.1)
            }
            None => format!("{name:<28} –\n"),
        };
        let number = |name: &str, value: Option<f64>| match value {
            Some(value) => format!("{name:<28} {value:.4}\n"),
            None => format!("{name:<28} not defined\n"),
        };
        let estimate = |name: &str, value: Option<Corrected>, none: &str| match value {
            Some(Corrected { value, stderr, ci95 }) => {
                format!(
                    "{name:<28} {value:.4} ± {stderr:.4} (95% {:.4} to {:.4})\n",
                    ci95.0, ci95.1
                )
            }
            None => format!("{name:<28} {none}\n"),
        };
        let mut text = format!("Judge {} against {} labels\n", self.judge, self.n);
        text += &share("agreement", self.agreement);
        text += &share("right called right", self.sensitivity);
        text += &share("wrong called wrong", self.specificity);
        text += &number("Cohen's kappa", self.kappa);
        text += &number("Gwet's AC1", self.ac1);
        text += &number("Krippendorff's alpha", self.alpha);
        text += &share("accuracy as judged", self.judged);
        text += &estimate(
            "corrected for its errors",
            self.corrected,
            "not possible: the judge errs too often",
        );
        text += &estimate("adjusted by the labels", self.prediction_powered, "–");
        for (what, ids) in [
            ("called right, but labelled wrong", &self.called_right_wrongly),
            ("called wrong, but labelled right", &self.called_wrong_wrongly),
            ("labelled, but left unscored by the judge", &self.unscored),
            ("labelled, but not in the run", &self.unknown),
        ] {
            if !ids.is_empty() {
                text += &format!("{} {what}: {}\n", ids.len(), some_of(ids));
            }
        }
        text
    }

    pub fn as_json(&self) -> Value {
        json!(self)
    }
}

fn some_of(ids: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = ids.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if ids.len() > SHOWN {
        text += ", …";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Letters for people and for the judge: `r` right, `w` wrong, `u` unscored, one per sample.
    fn checked(people: &str, judge: &str) -> Checked {
        let id = |place: usize| format!("s{place:03}");
        let labels: BTreeMap<String, bool> = people
            .chars()
            .enumerate()
            .map(|(place, c)| (id(place), c == 'r'))
            .collect();
        let verdict = |(place, c): (usize, char)| {
            let value = match c {
                'r' => Some(1.0),
                'w' => Some(0.0),
                _ => None,
            };
            (id(place), value)
        };
        let verdicts: Vec<_> = judge.chars().enumerate().map(verdict).collect();
        Checked::of_verdicts("j", &verdicts, &labels)
    }

    #[test]
    fn an_agreement_that_chance_would_give_is_told_from_a_true_one() {
        let people = "r".repeat(92) + &"r".repeat(3) + &"w".repeat(5);
        let judge = "r".repeat(92) + &"w".repeat(3) + &"r".repeat(5);
        let checked = checked(&people, &judge);
        let near = |got: Option<f64>, expected: f64| assert!((got.unwrap() - expected).abs() < 1e-6, "{got:?}");
        near(checked.agreement.map(|share| share.value), 0.92);
        near(checked.kappa, -0.038_961_0);
        near(checked.ac1, 0.913_344_9);
        assert_eq!(
            checked.corrected, None,
            "a judge that calls everything right cannot be corrected"
        );
        assert_eq!(
            (checked.called_right_wrongly.len(), checked.called_wrong_wrongly.len()),
            (5, 3)
        );
    }

    #[test]
    fn an_accuracy_is_corrected_for_the_judges_errors() {
        // 50 truly right of which 45 were called so, 40 truly wrong of which 36 were, and 110 without a label.
        let people = "r".repeat(50) + &"w".repeat(40);
        let judge =
            "r".repeat(45) + &"w".repeat(5) + &"w".repeat(36) + &"r".repeat(4) + &"r".repeat(75) + &"w".repeat(35);
        let checked = checked(&people, &judge);
        let corrected = checked.corrected.unwrap();
        assert!((corrected.value - 0.65).abs() < 1e-6 && (corrected.stderr - 0.058_818_1).abs() < 1e-6);
    }

    #[test]
    fn what_the_judge_left_open_is_no_disagreement() {
        let checked = checked("rrww", "ruww");
        assert_eq!((checked.n, checked.unscored.len()), (3, 1));
        assert_eq!(checked.agreement.unwrap().value, 1.0);
    }
}
