//! Attention in blocks of queries: scores are not kept, only the logarithm of each row's softmax denominator.

use super::Texts;
use crate::products::vector::{dot, exp, largest, vectorised};
use crate::products::{ByDepth, ByLane, Into, Left, Scratch, product_here};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a block.
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

/// Queries of one text: their numbers among all queries, and their positions in the text.
struct Block {
    /// Places in the buffer of queries.
    rows: Range<usize>,
    /// The union of what they see, in the buffer of keys.
    keys: Range<usize>,
    text: usize,
}

/// The blocks of a pass: keys of all tokens, queries of some.
pub(crate) struct Plan {
    rule: Rule,
    blocks: Vec<Block>,
    /// The token of each query, in rising order.
    tokens: Vec<usize>,
    /// The number of tokens.
    keys: usize,
}

impl Plan {
    /// `tokens` are the numbers of the tokens with queries, in rising order.
    pub fn new(rule: Rule, texts: &Texts, tokens: &[usize]) -> Plan {
        let mut blocks = Vec::new();
        let mut start = 0;
        for text in texts.each() {
            let count = tokens[start..].iter().take_while(|&&token| token < text.end).count();
            for first in (start..start + count).step_by(QUERIES) {
                let rows = first..(start + count).min(first + QUERIES);
                let last = tokens[rows.end - 1];
                let oldest = rule.window.map_or(text.start, |window| {
                    text.start.max((tokens[rows.start] + 1).saturating_sub(window))
                });
                let keys = match rule.ahead {
                    true => text.clone(),
                    false => oldest..last + 1,
                };
                let text = text.start;
                blocks.push(Block { rows, keys, text });
            }
            start += count;
        }
        Plan {
            rule,
            blocks,
            tokens: tokens.to_vec(),
            keys: texts.tokens(),
        }
    }

    /// What a query sees, counted from the first key of its block.
    fn seen(&self, block: &Block, row: usize) -> Range<usize> {
        if self.rule.ahead {
            return 0..block.keys.len();
        }
        let token = self.tokens[row];
        let oldest = self
            .rule
            .window
            .map_or(block.text, |window| block.text.max((token + 1).saturating_sub(window)));
        oldest - block.keys.start..token + 1 - block.keys.start
    }

    /// The scores of a block before softmax: (queries, keys).
    fn scores(&self, left: &Left, k: &[f32], keys: usize) -> Scratch {
        let mut scores = Scratch::new(left.rows() * keys);
        let right = ByLane::new(k, self.rule.size);
        product_here(&mut scores, left, &right, keys, self.rule.scale, Into::Set);
        if let Some(cap) = self.rule.softcap {
            scores.iter_mut().for_each(|score| *score = cap * (*score / cap).tanh());
        }
        scores
    }

    /// q (heads, queries, size), k and v (key heads, tokens, size) to out (heads, queries, size) and the logarithm of
    /// each row's denominator (heads, queries).
    pub fn forward(&self, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32], sums: &mut [f32]) {
        let (size, queries) = (self.rule.size, self.tokens.len());
        if queries == 0 {
            return;
        }
        let heads = out.par_chunks_mut(queries * size).zip(sums.par_chunks_mut(queries));
        heads.enumerate().for_each(|(head, (out, sums))| {
            let q = &q[head * queries * size..][..queries * size];
            let shared = head / self.rule.group * self.keys * size;
            let (k, v) = (&k[shared..][..self.keys * size], &v[shared..][..self.keys * size]);
            for block in &self.blocks {
                let of_keys = block.keys.start * size..block.keys.end * size;
                let (rows, keys) = (block.rows.len(), block.keys.len());
                let of_rows = block.rows.start * size..block.rows.end * size;
                let left = Left::pack_here(&ByLane::new(&q[of_rows.clone()], size), rows, size);
                let mut scores = self.scores(&left, &k[of_keys.clone()], keys);
                vectorised(
                    #[inline(always)]
                    || {
                        for (row, scores) in block.rows.clone().zip(scores.chunks_exact_mut(keys)) {
                            let seen = self.seen(block, row);
                            scores[..seen.start].fill(0.0);
                            scores[seen.end..].fill(0.0);
                            let scores = &mut scores[seen];
                            let largest = largest(scores);
                            scores.iter_mut().for_each(|score| *score = exp(*score - largest));
                            let sum = crate::products::vector::sum(
                                [scores],
                                #[inline(always)]
                                |[x]| x,
                            );
                            scores.iter_mut().for_each(|score| *score /= sum);
                            sums[row] = largest + sum.ln();
                        }
                    },
                );
                let left = Left::pack_here(&ByLane::new(&scores, keys), rows, keys);
                let v = ByDepth::new(&v[of_keys], size);
                product_here(&mut out[of_rows], &left, &v, size, 1.0, Into::Set);
            }
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
        let (size, queries, group) = (self.rule.size, self.tokens.len(), self.rule.group);
        dk.fill(0.0);
        dv.fill(0.0);
        if queries == 0 {
            return;
        }
        let (of_queries, of_keys) = (queries * size, self.keys * size);
        let shared = dq
            .par_chunks_mut(group * of_queries)
            .zip(dk.par_chunks_mut(of_keys))
            .zip(dv.par_chunks_mut(of_keys));
        shared.enumerate().for_each(|(shared, ((dq, dk), dv))| {
            let (k, v) = (&k[shared * of_keys..][..of_keys], &v[shared * of_keys..][..of_keys]);
            for (number, dq) in dq.chunks_exact_mut(of_queries).enumerate() {
                let head = shared * group + number;
                let of_head = |x: &'_ [f32]| -> Range<usize> {
                    debug_assert!(x.len() >= (head + 1) * of_queries);
                    head * of_queries..(head + 1) * of_queries
                };
                let head = Head {
                    q: &q[of_head(q)],
                    out: &out[of_head(out)],
                    dout: &dout[of_head(dout)],
                    sums: &sums[head * queries..][..queries],
                };
                for block in &self.blocks {
                    self.block_backward(block, &head, k, v, dq, dk, dv);
                }
            }
        });
    }

    #[expect(clippy::too_many_arguments, reason = "as for `backward`")]
    fn block_backward(
        &self,
        block: &Block,
        head: &Head,
        k: &[f32],
        v: &[f32],
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let (size, rule) = (self.rule.size, &self.rule);
        let of_keys = block.keys.start * size..block.keys.end * size;
        let of_rows = block.rows.start * size..block.rows.end * size;
        let (rows, keys) = (block.rows.len(), block.keys.len());
        let (k, v) = (&k[of_keys.clone()], &v[of_keys.clone()]);
        let (q, out, dout) = (
            &head.q[of_rows.clone()],
            &head.out[of_rows.clone()],
            &head.dout[of_rows.clone()],
        );
        let mut weights = self.scores(&Left::pack_here(&ByLane::new(q, size), rows, size), k, keys);
        let mut slopes = Scratch::new(rows * keys);
        let left = Left::pack_here(&ByLane::new(dout, size), rows, size);
        product_here(&mut slopes, &left, &ByLane::new(v, size), keys, 1.0, Into::Set);
        vectorised(
            #[inline(always)]
            || {
                let each = weights.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys));
                for ((number, row), (weights, slopes)) in block.rows.clone().enumerate().zip(each) {
                    let seen = self.seen(block, row);
                    for outside in [0..seen.start, seen.end..keys] {
                        weights[outside.clone()].fill(0.0);
                        slopes[outside].fill(0.0);
                    }
                    let (weights, slopes) = (&mut weights[seen.clone()], &mut slopes[seen]);
                    let at = number * size..(number + 1) * size;
                    let (level, sum) = (dot(&out[at.clone()], &dout[at]), head.sums[row]);
                    let each = weights.iter_mut().zip(slopes);
                    match rule.softcap {
                        // A separate loop without a branch.
                        None => {
                            for (weight, slope) in each {
                                *weight = exp(*weight - sum);
                                *slope = *weight * (*slope - level);
                            }
                        }
                        Some(cap) => {
                            for (weight, slope) in each {
                                let score = *weight;
                                *weight = exp(score - sum);
                                *slope = *weight * (*slope - level) * (1.0 - (score / cap) * (score / cap));
                            }
                        }
                    }
                }
            },
        );
        let by_row = Left::pack_here(&ByLane::new(&slopes, keys), rows, keys);
        product_here(
            &mut dq[of_rows],
            &by_row,
            &ByDepth::new(k, size),
            size,
            rule.scale,
            Into::Set,
        );
        let by_key = Left::pack_here(&ByDepth::new(&slopes, keys), keys, rows);
        let dk = &mut dk[of_keys.clone()];
        product_here(dk, &by_key, &ByDepth::new(q, size), size, rule.scale, Into::Add);
        let by_key = Left::pack_here(&ByDepth::new(&weights, keys), keys, rows);
        product_here(
            &mut dv[of_keys],
            &by_key,
            &ByDepth::new(dout, size),
            size,
            1.0,
            Into::Add,
        );
    }
}

/// What one query head keeps.
struct Head<'a> {
    q: &'a [f32],
    out: &'a [f32],
    dout: &'a [f32],
    sums: &'a [f32],
}
