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

    /// The batch of this size that takes the most, and what it takes.
    pub fn largest(&self, scan: &Scan, size: usize) -> Result<(Workload, Option<TrainingEstimate>)> {
        let mut largest = (Workload::default(), None);
        for work in largest_batches(scan, size) {
            let estimate = self.of(&work)?;
            let bytes = |estimate: &Option<TrainingEstimate>| estimate.as_ref().map(TrainingEstimate::bytes);
            if largest.0 == Workload::default() || bytes(&estimate) > bytes(&largest.1) {
                largest = (work, estimate);
            }
        }
        Ok(largest)
    }

    /// Refuses lessons that do not fit even alone, by their names. Shorter ones are not looked at, since they take less.
    pub fn check(&self, scan: &Scan, source: &dyn Source) -> Result<()> {
        let mut large = Vec::new();
        // Clips may take more than text of as many tokens.
        for heard in [true, false] {
            let of_kind = (0..scan.lengths.len()).filter(|row| (scan.seconds_each[*row] > 0.0) == heard);
            let mut rows: Vec<usize> = of_kind.collect();
            rows.sort_by_key(|row| std::cmp::Reverse((scan.lengths[*row], scan.learnt_each[*row])));
            for row in rows.into_iter().take(SHOWN + 1) {
                let Some(estimate) = self.of(&batch(scan, &[row]))?.filter(|estimate| !estimate.fits()) else {
                    break;
                };
                large.push((row, estimate));
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

/// The batch of these rows.
fn batch(scan: &Scan, rows: &[usize]) -> Workload {
    let of = |each: &[u64]| -> Vec<u64> { rows.iter().map(|row| each[*row]).collect() };
    let lengths = of(&scan.lengths);
    Workload {
        tokens: lengths.iter().sum(),
        learnt: of(&scan.learnt_each).iter().sum(),
        longest: lengths.iter().copied().max().unwrap_or_default(),
        seconds: rows.iter().map(|row| scan.seconds_each[*row]).sum(),
    }
}

/// The batch of the longest rows, and that of the longest clips if it is another.
fn largest_batches(scan: &Scan, size: usize) -> Vec<Workload> {
    let first = |mut rows: Vec<usize>| {
        rows.truncate(size);
        batch(scan, &rows)
    };
    let mut rows: Vec<usize> = (0..scan.lengths.len()).collect();
    rows.sort_by_key(|row| std::cmp::Reverse((scan.lengths[*row], scan.learnt_each[*row])));
    let longest = first(rows.clone());
    rows.sort_by(|one, other| scan.seconds_each[*other].total_cmp(&scan.seconds_each[*one]));
    let heard = first(rows);
    let mut both = vec![longest];
    if heard.seconds > both[0].seconds {
        both.push(heard);
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_rows_or_clips_make_the_largest_batch() {
        let mut scan = Scan {
            lengths: vec![3, 9, 5, 7],
            learnt_each: vec![1, 2, 4, 1],
            seconds_each: vec![0.0; 4],
            ..Scan::default()
        };
        let text = Workload {
            tokens: 16,
            learnt: 3,
            longest: 9,
            seconds: 0.0,
        };
        assert_eq!(largest_batches(&scan, 2), std::slice::from_ref(&text));
        scan.seconds_each = vec![2.5, 0.0, 1.0, 0.0];
        let heard = Workload {
            tokens: 8,
            learnt: 5,
            longest: 5,
            seconds: 3.5,
        };
        assert_eq!(largest_batches(&scan, 2), [text, heard]);
        assert_eq!(largest_batches(&Scan::default(), 2), [Workload::default()]);
    }
}
