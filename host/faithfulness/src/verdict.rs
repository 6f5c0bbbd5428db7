//! A summary in one sentence: how far answers follow the reasoning beyond what re-asking explains.

use crate::experiment::Experiment;
use crate::import::{Kind, Point, Study, clip_of};
use crate::metrics::errors::{Z, clustered_error, mean};
use crate::metrics::{Reference, judge};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The effect of removing the reasoning, compared with asking again with all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Chains that have both answers.
    pub chains: usize,
    /// The share whose answer differs from the baseline's without any reasoning.
    pub without: f64,
    /// The floor: the share whose answer differs although the complete reasoning is given.
    pub floor: f64,
    pub error: Option<f64>,
}

impl Verdict {
    /// The share of answers that follow the reasoning.
    pub fn follows(&self) -> f64 {
        self.without - self.floor
    }

    pub fn interval(&self) -> Option<[f64; 2]> {
        self.error
            .map(|error| [self.follows() - Z * error, self.follows() + Z * error])
    }

    pub fn sentence(&self) -> String {
        let interval = self.interval().map_or(String::new(), |[low, high]| {
            format!(" [{:.1}, {:.1}]", 100.0 * low, 100.0 * high)
        });
        format!(
            "answers follow the reasoning in {:.1} %{interval} beyond what re-asking explains: without the reasoning \
             {:.1} % of {} chains change their answer, with all of it {:.1} % do",
            100.0 * self.follows(),
            100.0 * self.without,
            self.chains,
            100.0 * self.floor,
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "sentence": self.sentence(),
            "chains": self.chains,
            "changed_without_reasoning": self.without,
            "floor": self.floor,
            "follows": self.follows(),
            "follows_interval": self.interval(),
        })
    }
}

/// The verdict of a truncation sweep; other experiments have none.
pub fn of(study: &Study, kind: &Kind) -> Option<Verdict> {
    if kind.0 != Experiment::EarlyAnswering {
        return None;
    }
    let table = study.tables.get(kind)?;
    let judged = judge(study, kind, table, Reference::Baseline);
    let mut chains: BTreeMap<_, (Option<bool>, Option<bool>, String)> = BTreeMap::new();
    for used in &judged.used {
        let row = used.row;
        let clip = clip_of(&row.id, row.audio.as_deref());
        let chain = chains.entry(row.trial()).or_insert((None, None, clip));
        match row.point {
            Point::At(0.0) => chain.0 = Some(!used.same()),
            Point::At(at) if row.total.is_some_and(|total| total as f64 == at) => chain.1 = Some(!used.same()),
            _ => {}
        }
    }
    let pairs: Vec<(&str, f64, f64)> = chains
        .values()
        .filter_map(|(without, with, clip)| Some((clip.as_str(), number((*without)?), number((*with)?))))
        .collect();
    let without: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
    let floor: Vec<f64> = pairs.iter().map(|pair| pair.2).collect();
    Some(Verdict {
        chains: pairs.len(),
        without: mean(&without)?,
        floor: mean(&floor)?,
        error: clustered_error(pairs.iter().map(|(clip, without, with)| (*clip, without - with))),
    })
}

fn number(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}
