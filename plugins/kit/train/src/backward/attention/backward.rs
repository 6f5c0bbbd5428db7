//! From the gradient of the mixture to those of queries, keys and values.

use super::mix::{Mix, Vectors};
use super::{Block, Heads, Plan, Rule, packed};
use crate::products::vector::{dot, exp, vectorised};
use crate::products::{ByDepth, ByLane, Scratch, Shape, Tile};

/// What all blocks of a text share.
struct Keys {
    /// Keys and values as the right side of products over channels.
    keys: Scratch,
    values: Scratch,
    /// Keys as the right side of products over keys.
    vectors: Vectors,
    /// Gradients of keys and values: panels of keys, each (channels in whole tiles, width).
    dkeys: Scratch,
    dvalues: Scratch,
}

impl Plan {
    /// The heads of one group.
    pub(super) fn heads_backward(&self, heads: &Heads, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let (rule, shape, size) = (&self.rule, self.shape, self.rule.size);
        for text in &self.texts {
            let of_keys = text.keys.start * size..text.keys.end * size;
            let (k, v, count) = (&heads.k[of_keys.clone()], &heads.v[of_keys.clone()], text.keys.len());
            let gradient = || {
                let lanes = count.next_multiple_of(shape.columns);
                let mut gradient = Scratch::new(lanes * size.next_multiple_of(shape.rows));
                gradient.fill(0.0);
                gradient
            };
            let mut keys = Keys {
                keys: packed(&ByLane::new(k, size), count, 0..size, shape.columns),
                values: packed(&ByLane::new(v, size), count, 0..size, shape.columns),
                vectors: Vectors::pack(k, size, shape.columns),
                dkeys: gradient(),
                dvalues: gradient(),
            };
            for head in 0..rule.group {
                for block in &text.blocks {
                    let rows = head * self.queries + block.rows.start..head * self.queries + block.rows.end;
                    let of_rows = rows.start * size..rows.end * size;
                    let queries = Queries {
                        q: &heads.q[of_rows.clone()],
                        out: &heads.out[of_rows.clone()],
                        dout: &heads.dout[of_rows.clone()],
                        sums: &heads.sums[rows],
                    };
                    block.backward(rule, &queries, &mut keys, &mut dq[of_rows]);
                }
            }
            write_turned(&mut dk[of_keys.clone()], &keys.dkeys, size, shape, rule.scale);
            write_turned(&mut dv[of_keys], &keys.dvalues, size, shape, 1.0);
        }
    }
}

/// Writes panels of gradients to y (keys, size).
fn write_turned(y: &mut [f32], panels: &[f32], size: usize, shape: Shape, scale: f32) {
    let width = shape.columns;
    let panels = panels.chunks_exact(width * size.next_multiple_of(shape.rows));
    for (y, panel) in y.chunks_mut(width * size).zip(panels) {
        for (key, y) in y.chunks_exact_mut(size).enumerate() {
            for (channel, y) in y.iter_mut().enumerate() {
                *y = scale * panel[channel * width + key];
            }
        }
    }
}

/// A block's queries in one head.
struct Queries<'a> {
    q: &'a [f32],
    out: &'a [f32],
    dout: &'a [f32],
    sums: &'a [f32],
}

impl Block {
    fn backward(&self, rule: &Rule, queries: &Queries, shared: &mut Keys, dq: &mut [f32]) {
        let (size, count, padded) = (rule.size, self.seen.len(), self.padded());
        let (height, width) = (self.shape.rows, self.shape.columns);
        let by_row = |x| packed(&ByLane::new(x, size), count, 0..size, height);
        let by_channel = |x| packed(&ByDepth::new(x, size), size, 0..count, height);
        let (q, dout) = (by_row(queries.q), by_row(queries.dout));
        let (q_turned, dout_turned) = (by_channel(queries.q), by_channel(queries.dout));
        let mut levels = vec![0.0; count];
        vectorised(
            #[inline(always)]
            || {
                let rows = queries.out.chunks_exact(size).zip(queries.dout.chunks_exact(size));
                for (level, (out, dout)) in levels.iter_mut().zip(rows) {
                    *level = dot(out, dout);
                }
            },
        );
        let of_keys = width * size.next_multiple_of(height);
        let (mut weights, mut slopes) = (Scratch::new(padded * width), Scratch::new(padded * width));
        let mut mix = Mix::new(self, &shared.vectors);
        for panel in self.panels() {
            let rows = self.rows_of(panel);
            {
                let some = rows.start * width..rows.end * width;
                let (weights, slopes) = (&mut weights[some.clone()], &mut slopes[some]);
                self.scores(rule, panel, &q, &shared.keys, weights);
                self.products(panel, size, &dout, &shared.values, slopes);
                vectorised(
                    #[inline(always)]
                    || {
                        let some = weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
                        let of_rows = queries.sums[rows.start..].iter().zip(&levels[rows.start..]);
                        for ((weights, slopes), (&sum, &level)) in some.zip(of_rows) {
                            of_row(rule, sum, level, weights, slopes);
                        }
                    },
                );
                self.set_unseen(panel, weights, 0.0);
                self.set_unseen(panel, slopes, 0.0);
                mix.add(panel, rows.clone(), slopes);
            }
            for (left, right, sums) in [
                (&q_turned, &slopes, &mut shared.dkeys),
                (&dout_turned, &weights, &mut shared.dvalues),
            ] {
                Tile {
                    rows: left,
                    panel: &right[..count * width],
                    width,
                    deep: count,
                    terms: rows.start..rows.end.min(count),
                    add: true,
                    sums: &mut sums[panel * of_keys..][..of_keys],
                }
                .run(self.shape);
            }
        }
        mix.finish(|_| rule.scale, dq);
    }
}

/// From scores and the gradients of weights to weights and the gradients of scores.
#[inline(always)]
fn of_row(rule: &Rule, sum: f32, level: f32, weights: &mut [f32], slopes: &mut [f32]) {
    let (weights, _) = weights.as_chunks_mut::<16>();
    let (slopes, _) = slopes.as_chunks_mut::<16>();
    for (weights, slopes) in weights.iter_mut().zip(slopes) {
        for n in 0..16 {
            let score = weights[n];
            weights[n] = exp(score - sum);
            slopes[n] = weights[n] * (slopes[n] - level);
            if let Some(cap) = rule.softcap {
                slopes[n] *= 1.0 - (score / cap) * (score / cap);
            }
        }
    }
}
