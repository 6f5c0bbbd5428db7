//! Whether lessons fit into memory, before any of them is learnt.

use super::scan::{SHOWN, Scan};
use super::source::Source;
use crate::catalog::Resolved;
use crate::failure::{Failure, Result};
use crate::process::in_words;
use plugin_api::{Plan, TrainingEstimate, Workload};

/// Estimates the memory of training a model by a plan.
pub struct Memory<'a> {
    pub model: &'a Resolved,
    pub plan: &'a Plan,
    /// Bytes that the model takes now and gives back before it learns.
    pub held: u64,
}

impl Memory<'_> {
    /// None if the model does not say.
    pub fn of(&self, work: &Workload) -> Result<Option<TrainingEstimate>> {
        let Resolved {
            plugin, spec, settings, ..
        } = self.model;
        let mut estimate = plugin.training_estimate(&spec.adapter, settings, self.plan, work)?;
        if let Some(available) = estimate.as_mut().and_then(|estimate| estimate.available_bytes.as_mut()) {
            *available += self.held;
        }
        Ok(estimate)
    }

    /// Refuses lessons that do not fit even alone, by their names. Shorter ones are not looked at, since they take less.
    pub fn check(&self, scan: &Scan, source: &dyn Source) -> Result<()> {
        let mut rows: Vec<usize> = (0..scan.lengths.len()).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((scan.lengths[*row], scan.learnt_each[*row])));
        let mut large = Vec::new();
        for row in rows {
            let Some(estimate) = self.of(&one(scan, row))?.filter(|estimate| !estimate.fits()) else {
                break;
            };
            large.push((row, estimate));
            if large.len() > SHOWN {
                break;
            }
        }
        let Some((_, largest)) = large.first() else {
            return Ok(());
        };
        let free = in_words(largest.available_bytes.unwrap_or_default());
        // If nothing fits, it is not for the lessons.
        if let Some(least) = self.of(&Workload::default())?.filter(|estimate| !estimate.fits()) {
            let message = format!(
                "this run takes {} of memory, and {free} are free",
                in_words(least.bytes())
            );
            return Err(Failure::missing(message).help(format!("take {LESS}")));
        }
        let named = large.iter().take(SHOWN).map(|(row, estimate)| {
            let (name, tokens) = (source.name(*row), scan.lengths[*row]);
            format!("`{name}` ({tokens} tokens, {})", in_words(estimate.bytes()))
        });
        let more = if large.len() > SHOWN { " and others" } else { "" };
        let names = named.collect::<Vec<_>>().join(", ");
        let message = format!("lessons that alone do not fit into the {free} of memory that are free: {names}{more}");
        Err(Failure::missing(message).help(format!("leave them out, or take {LESS}")))
    }
}

/// What makes a run smaller.
pub const LESS: &str = "a smaller `per_device_train_batch_size` with more `gradient_accumulation_steps`, \
                        `--gradient-checkpointing`, `--method qlora`, or `--optim adamw_8bit`";

/// The batch that is one row.
fn one(scan: &Scan, row: usize) -> Workload {
    Workload {
        tokens: scan.lengths[row],
        learnt: scan.learnt_each[row],
        longest: scan.lengths[row],
        seconds: 0.0,
    }
}

/// The batch of the longest rows, which no other can exceed, whatever the order.
pub fn largest_batch(scan: &Scan, size: usize) -> Workload {
    let mut rows: Vec<(u64, u64)> = scan
        .lengths
        .iter()
        .copied()
        .zip(scan.learnt_each.iter().copied())
        .collect();
    rows.sort_unstable_by_key(|row| std::cmp::Reverse(*row));
    let largest = &rows[..rows.len().min(size)];
    Workload {
        tokens: largest.iter().map(|(tokens, _)| tokens).sum(),
        learnt: largest.iter().map(|(_, learnt)| learnt).sum(),
        longest: rows.first().map_or(0, |(tokens, _)| *tokens),
        seconds: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rows_make_the_largest_batch() {
        let scan = Scan {
            lengths: vec![3, 9, 5],
            learnt_each: vec![1, 2, 4],
            ..Scan::default()
        };
        let work = largest_batch(&scan, 2);
        assert_eq!((work.tokens, work.learnt, work.longest), (14, 6, 9));
        assert_eq!(largest_batch(&Scan::default(), 2), Workload::default());
    }
}
