//! From queries, keys and values to their mixture.

use super::mix::{Mix, Vectors};
use super::{Block, Plan, Rule, packed};
use crate::products::vector::{exp, largest, sum, vectorised};
use crate::products::{ByLane, Scratch, Tile};

impl Plan {
    /// One head.
    pub(super) fn head_forward(&self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let (size, width) = (self.rule.size, self.shape.columns);
        for text in &self.texts {
            let of_keys = text.keys.start * size..text.keys.end * size;
            let count = text.keys.len();
            let keys = packed(&ByLane::new(&k[of_keys.clone()], size), count, 0..size, width);
            let values = Vectors::pack(&v[of_keys], size, width);
            let most = text.blocks.iter().map(|block| block.panels().len() * block.padded());
            let mut scores = Scratch::new(most.max().unwrap_or(0) * width);
            for block in &text.blocks {
                let of_rows = block.rows.start * size..block.rows.end * size;
                let (out, sums) = (&mut out[of_rows.clone()], &mut sums[block.rows.clone()]);
                block.forward(&self.rule, &q[of_rows], &keys, &values, &mut scores, out, sums);
            }
        }
    }
}

impl Block {
    #[expect(clippy::too_many_arguments, reason = "three in, two out, and room for scores")]
    fn forward(
        &self,
        rule: &Rule,
        q: &[f32],
        keys: &[f32],
        values: &Vectors,
        scores: &mut [f32],
        out: &mut [f32],
        sums: &mut [f32],
    ) {
        let (size, width, padded) = (rule.size, self.shape.columns, self.padded());
        let q = packed(&ByLane::new(q, size), self.seen.len(), 0..size, self.shape.rows);
        let mut most = Scratch::new(padded * width);
        most.fill(f32::NEG_INFINITY);
        for (panel, scores) in self.panels().zip(scores.chunks_exact_mut(padded * width)) {
            let rows = self.rows_of(panel);
            let scores = &mut scores[rows.start * width..rows.end * width];
            self.scores(rule, panel, &q, keys, scores);
            self.set_unseen(panel, scores, f32::NEG_INFINITY);
            vectorised(
                #[inline(always)]
                || {
                    let (most, _) = most[rows.start * width..].as_chunks_mut::<16>();
                    for (most, scores) in most.iter_mut().zip(scores.as_chunks::<16>().0) {
                        for n in 0..16 {
                            most[n] = if scores[n] > most[n] { scores[n] } else { most[n] };
                        }
                    }
                },
            );
        }
        let most: Vec<f32> = most.chunks_exact(width).map(largest).collect();
        let mut totals = Scratch::new(padded * width);
        totals.fill(0.0);
        let mut mix = Mix::new(self, values);
        for (panel, scores) in self.panels().zip(scores.chunks_exact_mut(padded * width)) {
            let rows = self.rows_of(panel);
            let scores = &mut scores[rows.start * width..rows.end * width];
            vectorised(
                #[inline(always)]
                || {
                    for (scores, &most) in scores.chunks_exact_mut(width).zip(&most[rows.start..]) {
                        for scores in scores.as_chunks_mut::<16>().0 {
                            for score in scores {
                                *score = exp(*score - most);
                            }
                        }
                    }
                },
            );
            self.set_unseen(panel, scores, 0.0);
            vectorised(
                #[inline(always)]
                || {
                    let totals = &mut totals[rows.start * width..];
                    totals
                        .iter_mut()
                        .zip(&*scores)
                        .for_each(|(total, score)| *total += score);
                },
            );
            mix.add(panel, rows, scores);
        }
        let total = |row: usize| {
            sum(
                [&totals[row * width..(row + 1) * width]],
                #[inline(always)]
                |[x]| x,
            )
        };
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = most[row] + total(row).ln();
        }
        mix.finish(|row| 1.0 / total(row), out);
    }

    /// The scores of the rows that see a panel of keys: (rows, width).
    pub(super) fn scores(&self, rule: &Rule, panel: usize, q: &[f32], keys: &[f32], scores: &mut [f32]) {
        self.products(panel, rule.size, q, keys, scores);
        vectorised(
            #[inline(always)]
            || {
                for scores in scores.as_chunks_mut::<16>().0 {
                    for score in scores {
                        *score *= rule.scale;
                    }
                }
            },
        );
        if let Some(cap) = rule.softcap {
            scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
        }
    }

    /// The products of the rows that see a panel of keys with the vectors of these: (rows, width).
    pub(super) fn products(&self, panel: usize, size: usize, rows: &[f32], keys: &[f32], products: &mut [f32]) {
        let (width, some) = (self.shape.columns, self.rows_of(panel));
        Tile {
            rows: &rows[some.start * size..some.end * size],
            panel: &keys[panel * width * size..][..width * size],
            width,
            deep: size,
            terms: 0..size,
            add: false,
            sums: products,
        }
        .run(self.shape);
    }
}
