//! The rows of each step: an epoch's order, its batches, and their distribution over processes.

use super::mersenne::Mersenne;
use serde::{Deserialize, Serialize};

/// The order of rows in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The order of the file.
    Given,
    /// Shuffled for each epoch by our own generator.
    Seeded,
    /// Shuffled like the reference's `Trainer`.
    #[default]
    Transformers,
}

impl Order {
    /// The rows of an epoch.
    pub fn rows(self, rows: usize, seed: u64, epoch: u64) -> Vec<u32> {
        let seed = seed.wrapping_add(epoch);
        match self {
            Order::Given => (0..rows as u32).collect(),
            Order::Seeded => shuffled((0..rows as u32).collect(), seed),
            Order::Transformers => Mersenne::new(seed).permutation(rows),
        }
    }
}

/// SplitMix64: one addition and three mixes for each number, and every seed is good.
struct SplitMix(u64);

impl SplitMix {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`: the upper half of a product, which prefers none by more than n / 2^64.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.draw()) * n as u128) >> 64) as usize
    }
}

/// The Fisher–Yates shuffle, from the end.
fn shuffled<T>(mut all: Vec<T>, seed: u64) -> Vec<T> {
    let mut generator = SplitMix(seed);
    for last in (1..all.len()).rev() {
        all.swap(last, generator.below(last + 1));
    }
    all
}

/// Splits the ordered rows of an epoch into batches.
pub fn batches(rows: &[u32], size: usize, drop_last: bool) -> Vec<Vec<u32>> {
    let cut = rows.chunks(size.max(1)).map(<[u32]>::to_vec);
    cut.filter(|batch| !drop_last || batch.len() == size).collect()
}

/// The batches of an epoch if rows with clips and rows without are never mixed: each kind is shuffled and split into
/// batches, then the batches are shuffled.
pub fn batches_by_kind(heard: &[bool], size: usize, order: Order, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
    let of_kind = |kind: bool| -> Vec<u32> {
        let numbers = 0..heard.len() as u32;
        numbers.filter(|row| heard[*row as usize] == kind).collect()
    };
    let mut all = Vec::new();
    for rows in [of_kind(true), of_kind(false)] {
        let order = order.rows(rows.len(), seed, epoch);
        let rows: Vec<u32> = order.into_iter().map(|place| rows[place as usize]).collect();
        all.extend(batches(&rows, size, false));
    }
    match order {
        Order::Given => all,
        _ => shuffled(all, seed.wrapping_add(epoch)),
    }
}

/// Groups rows of similar length like the reference: within each 50 steps' worth of shuffled rows the longest come
/// first, and the very longest begins the epoch, so that a lack of memory shows immediately.
pub fn by_length(rows: Vec<u32>, lengths: &[usize], step_rows: usize) -> Vec<u32> {
    let many = (rows.len() / (step_rows * 4).max(1)).clamp(1, 50) * step_rows;
    let mut mega: Vec<Vec<u32>> = rows.chunks(many.max(1)).map(<[u32]>::to_vec).collect();
    for some in &mut mega {
        some.sort_by_key(|row| std::cmp::Reverse(lengths[*row as usize]));
    }
    let longest = (0..mega.len()).min_by_key(|index| std::cmp::Reverse(lengths[mega[*index][0] as usize]));
    if let Some(longest) = longest {
        let (first, other) = (mega[0][0], mega[longest][0]);
        mega[0][0] = other;
        mega[longest][0] = first;
    }
    mega.concat()
}

/// The number of steps in an epoch and in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    pub batches: u64,
    pub per_epoch: u64,
    pub total: u64,
}

impl Steps {
    /// `together` is the number of batches in a step, of all processes.
    pub fn new(batches: u64, together: u64, epochs: f64, max_steps: u64) -> Steps {
        let per_epoch = batches.div_ceil(together.max(1));
        let total = match max_steps {
            0 => (epochs * per_epoch as f64).ceil() as u64,
            _ => max_steps,
        };
        Steps {
            batches,
            per_epoch,
            total: if per_epoch == 0 { 0 } else { total },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_the_reference_counts_them() {
        let steps = |rows: u64, size: u64, together, epochs| Steps::new(rows.div_ceil(size), together, epochs, 0);
        assert_eq!((steps(29, 2, 2, 1.0).batches, steps(29, 2, 2, 1.0).total), (15, 8));
        assert_eq!(steps(6251, 1, 4, 1.0).total, 1563);
        assert_eq!(
            (steps(2251, 4, 4, 3.0).per_epoch, steps(2251, 4, 4, 3.0).total),
            (141, 423)
        );
        assert_eq!(steps(29, 2, 2, 0.5).total, 4);
        assert_eq!(Steps::new(15, 2, 3.0, 5).total, 5);
        assert_eq!(Steps::new(0, 2, 3.0, 5).total, 0);
    }

    #[test]
    fn a_seeded_order_is_a_permutation_that_changes_with_the_epoch() {
        let order = |epoch| Order::Seeded.rows(100, 1, epoch);
        let mut sorted = order(0);
        sorted.sort_unstable();
        assert_eq!(sorted, Order::Given.rows(100, 1, 0));
        assert_eq!(order(3), order(3));
        assert_ne!(order(0), order(1));
    }

    #[test]
    fn the_last_batch_is_short_or_left_out() {
        let rows = Order::Given.rows(5, 0, 0);
        assert_eq!(batches(&rows, 2, false), [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(batches(&rows, 2, true), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn batches_by_kind_mix_nothing_and_lose_nothing() {
        let heard: Vec<bool> = (0..11).map(|row| row % 3 == 0).collect();
        let batches = batches_by_kind(&heard, 2, Order::Transformers, 5, 0);
        assert!(batches.iter().all(|batch| {
            let kind = heard[batch[0] as usize];
            batch.iter().all(|row| heard[*row as usize] == kind)
        }));
        let mut rows = batches.concat();
        rows.sort_unstable();
        assert_eq!(rows, Order::Given.rows(11, 0, 0));
    }

    #[test]
    fn the_longest_row_begins_the_epoch() {
        let lengths: Vec<usize> = (0..40).map(|row| row * 7 % 41).collect();
        let grouped = by_length(Order::Transformers.rows(40, 1, 0), &lengths, 2);
        let longest = lengths.iter().max().copied().unwrap();
        assert_eq!(lengths[grouped[0] as usize], longest);
        let mut sorted = grouped.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, Order::Given.rows(40, 0, 0));
    }
}
