//! Attention in blocks of queries: scores are not kept, only the logarithm of each row's softmax denominator.
//!
//! A block goes through the keys that it sees a panel at a time, as wide as a tile of sums. Keys and values are packed
//! once for all blocks of a text, scores stay where the tiles wrote them, and tiles whose scores would all be zero are
//! left out.

mod backward;
mod forward;
mod mix;

use super::Texts;
use crate::products::{Operand, Scratch, Shape};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block, a multiple of any tile's height.
const QUERIES: usize = 96;

/// What tokens see, and how scores are computed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub scale: f32,
    /// A token sees itself and the `window - 1` tokens before it.
    pub window: Option<usize>,
    pub softcap: Option<f32>,
    /// Whether tokens also see later ones.
    pub ahead: bool,
    /// Query heads that share a key head.
    pub group: usize,
    pub size: usize,
}

/// Queries of one text.
struct Block {
    /// Their numbers among all queries.
    rows: Range<usize>,
    /// The keys that each of them sees, counted from the text's first. Both ends rise from query to query.
    seen: Vec<Range<usize>>,
    shape: Shape,
}

impl Block {
    /// The number of rows with those that fill the last tile.
    fn padded(&self) -> usize {
        self.seen.len().next_multiple_of(self.shape.rows)
    }

    /// The panels with the keys that the block sees.
    fn panels(&self) -> Range<usize> {
        let last = self.seen.last().map_or(0, |seen| seen.end);
        let first = self.seen.first().map_or(0, |seen| seen.start);
        first / self.shape.columns..last.div_ceil(self.shape.columns)
    }

    fn keys_of(&self, panel: usize) -> Range<usize> {
        panel * self.shape.columns..(panel + 1) * self.shape.columns
    }

    /// The rows, in whole tiles, of which some see a key of the panel.
    fn rows_of(&self, panel: usize) -> Range<usize> {
        let keys = self.keys_of(panel);
        let first = self.seen.partition_point(|seen| seen.end <= keys.start);
        let end = self.seen.partition_point(|seen| seen.start < keys.end);
        let height = self.shape.rows;
        first / height * height..end.next_multiple_of(height)
    }

    /// The keys that some row of a tile sees.
    fn keys_of_tile(&self, tile: usize) -> Range<usize> {
        let rows = &self.seen[tile * self.shape.rows..];
        let rows = &rows[..rows.len().min(self.shape.rows)];
        rows[0].start..rows[rows.len() - 1].end
    }

    /// Sets values of the rows that see a panel, (rows, width), at keys that these rows do not see. Rows that fill the
    /// last tile see none.
    fn set_unseen(&self, panel: usize, values: &mut [f32], value: f32) {
        let (keys, rows) = (self.keys_of(panel), self.rows_of(panel));
        let sees_all = |seen: &Range<usize>| seen.start <= keys.start && keys.end <= seen.end;
        // Ends rise, so that the first and the last row speak for all.
        if rows.end <= self.seen.len() && [rows.start, rows.end - 1].iter().all(|&row| sees_all(&self.seen[row])) {
            return;
        }
        for (row, values) in rows.zip(values.chunks_exact_mut(self.shape.columns)) {
            let seen = self.seen.get(row).map_or(0..0, |seen| seen.clone());
            let place = |key: usize| key.clamp(keys.start, keys.end) - keys.start;
            values[..place(seen.start)].fill(value);
            values[place(seen.end)..].fill(value);
        }
    }
}

struct Text {
    /// Its tokens, and the blocks of its queries.
    keys: Range<usize>,
    blocks: Vec<Block>,
}

/// The texts of a pass: keys of all tokens, queries of some.
pub(crate) struct Plan {
    rule: Rule,
    texts: Vec<Text>,
    queries: usize,
    keys: usize,
    shape: Shape,
}

impl Plan {
    /// `tokens` are the numbers of the tokens with queries, in rising order.
    pub fn new(rule: Rule, texts: &Texts, tokens: &[usize]) -> Plan {
        let shape = Shape::here();
        let mut start = 0;
        let text = |keys: Range<usize>| {
            let own = tokens[start..].iter().take_while(|&&token| token < keys.end).count();
            let rows = start..start + own;
            start = rows.end;
            let seen = |token: &usize| {
                let place = token - keys.start;
                let oldest = rule.window.map_or(0, |window| (place + 1).saturating_sub(window));
                if rule.ahead { 0..keys.len() } else { oldest..place + 1 }
            };
            let block = |first: usize| {
                let rows = first..rows.end.min(first + QUERIES);
                let seen = tokens[rows.clone()].iter().map(seen).collect();
                Block { rows, seen, shape }
            };
            let blocks = rows.clone().step_by(QUERIES).map(block).collect();
            Text { keys, blocks }
        };
        Plan {
            rule,
            texts: texts.each().map(text).filter(|text| !text.blocks.is_empty()).collect(),
            queries: tokens.len(),
            keys: texts.tokens(),
            shape,
        }
    }

    /// q (heads, queries, size), k and v (key heads, tokens, size) to out (heads, queries, size) and the logarithm of
    /// each row's denominator (heads, queries).
    pub fn forward(&self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let (of_queries, of_keys) = (self.queries * self.rule.size, self.keys * self.rule.size);
        if self.queries == 0 {
            return;
        }
        let heads = out.par_chunks_mut(of_queries).zip(sums.par_chunks_mut(self.queries));
        heads.enumerate().for_each(|(head, (out, sums))| {
            let shared = head / self.rule.group * of_keys;
            let (k, v) = (&k[shared..][..of_keys], &v[shared..][..of_keys]);
            self.head_forward(&q[head * of_queries..][..of_queries], k, v, out, sums);
        });
    }

    /// From the gradient of `out` to those of q, k and v, which are overwritten.
    #[expect(clippy::too_many_arguments, reason = "three in, three out, and what was kept")]
    pub fn backward(
        &self,
        (q, k, v): (&[f32], &[f32], &[f32]),
        out: &[f32],
        sums: &[f32],
        dout: &[f32],
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (of_queries, of_keys) = (self.queries * self.rule.size, self.keys * self.rule.size);
        dk.fill(0.0);
        dv.fill(0.0);
        if self.queries == 0 {
            return;
        }
        let group = self.rule.group * of_queries;
        let shared = dq
            .par_chunks_mut(group)
            .zip(dk.par_chunks_mut(of_keys))
            .zip(dv.par_chunks_mut(of_keys));
        shared.enumerate().for_each(|(shared, ((dq, dk), dv))| {
            let queries = shared * group..(shared + 1) * group;
            let heads = Heads {
                q: &q[queries.clone()],
                out: &out[queries.clone()],
                dout: &dout[queries],
                sums: &sums[shared * self.rule.group * self.queries..],
                k: &k[shared * of_keys..][..of_keys],
                v: &v[shared * of_keys..][..of_keys],
            };
            self.heads_backward(&heads, dq, dk, dv);
        });
    }
}

/// Query heads that share keys and values, and what the forward pass kept.
struct Heads<'a> {
    q: &'a [f32],
    out: &'a [f32],
    dout: &'a [f32],
    sums: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
}

/// Panels of `width` lanes over some depth.
fn packed(operand: &dyn Operand, lanes: usize, depth: Range<usize>, width: usize) -> Scratch {
    let mut panels = Scratch::new(lanes.next_multiple_of(width) * depth.len());
    operand.pack_panels(0..lanes, depth, width, &mut panels);
    panels
}
