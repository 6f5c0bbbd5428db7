//! The loss on held-out rows.

use super::rows::{Named, RowMaker};
use super::student::Student;
use crate::Engine;
use plugin_api::{Lessons, Result, Split};

/// The losses of held-out rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Evaluated {
    /// The mean over all learnt tokens, as in training.
    pub loss: f64,
    /// The reference's: the mean over the tokens of each batch, weighted by its rows, so that it depends on the batch
    /// size.
    pub by_batch: f64,
    pub rows: u64,
    pub batches: u64,
    pub items: u64,
}

/// The sums of a batch: loss, learnt tokens, rows.
type BatchSums = [f64; 3];

/// Evaluates the share of a process, given its rank and how many there are: each takes every `world`-th batch.
pub fn share(
    maker: &mut RowMaker,
    student: &mut dyn Student,
    engine: &mut dyn Engine,
    lessons: &Lessons,
    (rank, world): (u64, u64),
    size: usize,
) -> Result<Vec<u8>> {
    let count = lessons.count(Split::HeldOut)?;
    let size = size.max(1) as u64;
    let mut mine: Vec<BatchSums> = Vec::new();
    for batch in (rank..count.div_ceil(size)).step_by(world as usize) {
        let numbers = batch * size..((batch + 1) * size).min(count);
        let rows = numbers.map(|index| maker.row(student, engine, lessons, Split::HeldOut, index));
        let rows: Vec<_> = rows
            .map(|row| row.map(|Named { row, .. }| row))
            .collect::<Result<_>>()?;
        let sums = engine.evaluate(&rows)?;
        let loss = sums.iter().map(|sums| sums.loss).sum();
        let items = sums.iter().map(|sums| sums.items).sum::<u64>();
        mine.push([loss, items as f64, rows.len() as f64]);
    }
    Ok(mine.iter().flatten().flat_map(|value| value.to_le_bytes()).collect())
}

/// The losses of all held-out rows, given the shares of all processes.
pub fn joined(shares: &[Vec<u8>]) -> Evaluated {
    let all: Vec<Vec<BatchSums>> = shares.iter().map(|bytes| read(bytes)).collect();
    let (world, batches) = (all.len(), all.iter().map(Vec::len).sum());
    // In the order of the batches, so that the sum does not depend on the number of processes.
    let sums = (0..batches).filter_map(|batch| all[batch % world].get(batch / world));
    sum(sums.copied(), batches as u64)
}

fn read(bytes: &[u8]) -> Vec<BatchSums> {
    let (words, _) = bytes.as_chunks::<8>();
    let values: Vec<f64> = words.iter().map(|word| f64::from_le_bytes(*word)).collect();
    values.as_chunks::<3>().0.to_vec()
}

fn sum(batches: impl Iterator<Item = BatchSums>, count: u64) -> Evaluated {
    let (mut total, mut means, mut weights) = ([0.0; 3], 0.0, 0.0);
    for [loss, items, rows] in batches {
        total[0] += loss;
        total[1] += items;
        total[2] += rows;
        if items > 0.0 {
            means += loss / items * rows;
            weights += rows;
        }
    }
    Evaluated {
        loss: total[0] / total[1],
        by_batch: means / weights,
        rows: total[2] as u64,
        batches: count,
        items: total[1] as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_weigh_the_same_and_batches_by_their_rows() {
        let evaluated = sum([[6.0, 3.0, 2.0], [5.0, 1.0, 1.0], [0.0, 0.0, 1.0]].into_iter(), 3);
        assert_eq!(evaluated.loss, 11.0 / 4.0);
        assert_eq!(evaluated.by_batch, (2.0 * 2.0 + 5.0) / 3.0);
        assert_eq!((evaluated.rows, evaluated.items), (4, 4));
    }
}
