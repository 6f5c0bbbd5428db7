//! Agreement between the scorers of the same records: the task's own scorer and judges, in pairs.

use super::main_metric;
use crate::failure::Result;
use crate::run::recorded::Recorded;
use crate::run::results::Summary;
use crate::run::store::score::{JUDGED, ScoreStatus};
use statistics::{cohen_kappa, gwet_ac1};
use std::collections::BTreeMap;

/// Two scorers of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    pub run: String,
    pub first: String,
    pub second: String,
    /// Records that both scored.
    pub n: usize,
    /// The share of records that both score right, or both wrong; none if a score is neither.
    pub same: Option<f64>,
    pub kappa: Option<f64>,
    pub ac1: Option<f64>,
    /// The mean distance of the two scores.
    pub distance: f64,
}

/// The agreements of a run's scorers; none if there is only one.
pub fn agreements(run: &Recorded, summary: &Summary) -> Result<Vec<Agreement>> {
    let judged = run.results().is_ok_and(|results| results["host"]["judges"].is_object());
    if !judged {
        return Ok(Vec::new());
    }
    let main = main_metric(summary).map(|metric| metric.name.clone());
    let mut pairs: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    run.each(|record| {
        let mut values: Vec<(String, f64)> = Vec::new();
        for (name, entry) in &record.scores {
            let own = *name == record.task;
            let value = match own {
                true => main
                    .as_ref()
                    .and_then(|main| entry.values.get(main))
                    .or_else(|| entry.values.values().next()),
                false => entry.values.get(JUDGED),
            };
            let counts = matches!(entry.status, ScoreStatus::Scored | ScoreStatus::NoAnswer);
            if let Some(value) = value.filter(|value| counts && value.is_finite()) {
                values.push((name.clone(), *value));
            }
        }
        // The task's own scorer first.
        values.sort_by_key(|(name, _)| (*name != record.task, name.clone()));
        for (place, (first, a)) in values.iter().enumerate() {
            for (second, b) in &values[place + 1..] {
                pairs.entry((first.clone(), second.clone())).or_default().push((*a, *b));
            }
        }
        Ok(())
    })?;
    let name = run
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    Ok(pairs
        .into_iter()
        .map(|((first, second), values)| agreement(&name, first, second, &values))
        .collect())
}

fn agreement(run: &str, first: String, second: String, values: &[(f64, f64)]) -> Agreement {
    let n = values.len();
    let binary = |value: f64| value == 0.0 || value == 1.0;
    let ruled: Option<Vec<(bool, bool)>> = values
        .iter()
        .map(|(a, b)| (binary(*a) && binary(*b)).then_some((*a == 1.0, *b == 1.0)))
        .collect();
    let same = |ruled: &Vec<(bool, bool)>| ruled.iter().filter(|(a, b)| a == b).count() as f64 / n as f64;
    Agreement {
        run: run.to_owned(),
        first,
        second,
        n,
        same: ruled.as_ref().map(same),
        kappa: ruled.as_ref().and_then(|ruled| cohen_kappa(ruled)),
        ac1: ruled.as_ref().and_then(|ruled| gwet_ac1(ruled)),
        distance: values.iter().map(|(a, b)| (a - b).abs()).sum::<f64>() / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_counted_and_corrected_for_chance() {
        let values = [(1.0, 1.0), (1.0, 1.0), (0.0, 0.0), (0.0, 1.0)];
        let found = agreement("r", "a".to_owned(), "b".to_owned(), &values);
        assert_eq!((found.n, found.same, found.distance), (4, Some(0.75), 0.25));
        // Expected by chance: 0.5 × 0.75 + 0.5 × 0.25 = 0.5.
        assert!((found.kappa.unwrap() - 0.5).abs() < 1e-12);
        let graded = agreement("r", "a".to_owned(), "b".to_owned(), &[(0.5, 1.0)]);
        assert_eq!((graded.same, graded.kappa, graded.distance), (None, None, 0.5));
    }
}
