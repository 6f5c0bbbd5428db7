//! Which samples of a task belong to a run.

use crate::failure::{Failure, Result};
use plugin_api::client::TaskClient;
use std::str::FromStr;

/// `--limit`: a number, a share, or a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// Only the first ones, this many.
    First(usize),
    /// The first share of this size, at least one sample.
    Share(f64),
    /// From one index up to, not including, another.
    Range(usize, usize),
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Limit, String> {
        let wrong = || format!("`{text}` is neither a number (20), a share (0.1) nor a range (10-20)");
        if let Some((from, to)) = text.split_once('-') {
            let (from, to) = (
                from.trim().parse().map_err(|_| wrong())?,
                to.trim().parse().map_err(|_| wrong())?,
            );
            return if from < to {
                Ok(Limit::Range(from, to))
            } else {
                Err(format!("the range `{text}` is empty"))
            };
        }
        if text.contains('.') {
            let share: f64 = text.parse().map_err(|_| wrong())?;
            return if share > 0.0 && share <= 1.0 {
                Ok(Limit::Share(share))
            } else {
                Err(wrong())
            };
        }
        match text.parse() {
            Ok(0) => Err("a limit of 0 samples leaves nothing to do".to_owned()),
            Ok(number) => Ok(Limit::First(number)),
            Err(_) => Err(wrong()),
        }
    }
}

impl Limit {
    fn indexes(self, count: usize) -> std::ops::Range<usize> {
        match self {
            Limit::First(number) => 0..number.min(count),
            Limit::Share(share) => 0..((count as f64 * share).ceil() as usize).min(count),
            Limit::Range(from, to) => from.min(count)..to.min(count),
        }
    }
}

/// The indexes of the selected samples, in the order of the data.
pub fn select(task: &TaskClient, name: &str, limit: Option<Limit>, ids: &[String]) -> Result<Vec<usize>> {
    let count = task.count()?;
    if count == 0 {
        return Err(Failure::missing(format!("task `{name}` has no samples")));
    }
    if ids.is_empty() {
        let chosen: Vec<usize> = limit.map_or(0..count, |limit| limit.indexes(count)).collect();
        if chosen.is_empty() {
            return Err(Failure::usage(format!(
                "the limit leaves none of the {count} samples of task `{name}`"
            )));
        }
        return Ok(chosen);
    }
    let mut chosen = Vec::new();
    let mut missing: Vec<&String> = ids.iter().collect();
    for index in 0..count {
        let Ok(sample) = task.sample(index) else { continue };
        if ids.contains(&sample.id) {
            missing.retain(|id| **id != sample.id);
            chosen.push(index);
        }
    }
    match missing.first() {
        None => Ok(chosen),
        Some(id) => {
            Err(Failure::usage(format!("task `{name}` has no sample `{id}`")).help("`--dry-run` shows the first ids"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, count: usize, expected: std::ops::Range<usize>) {
        assert_eq!(text.parse::<Limit>().unwrap().indexes(count), expected, "{text}");
    }

    #[test]
    fn limits_are_numbers_shares_or_ranges() {
        check("5", 100, 0..5);
        check("500", 100, 0..100);
        check("0.1", 95, 0..10);
        check("1.0", 95, 0..95);
        check("10-20", 100, 10..20);
        check("90-200", 100, 90..100);
        for wrong in ["0", "-1", "1.5", "0.0", "20-10", "ten", ""] {
            assert!(wrong.parse::<Limit>().is_err(), "{wrong}");
        }
    }
}
