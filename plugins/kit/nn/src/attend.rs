//! Attention: the one place where masks, grouped heads and windows are dealt with.

use crate::layers::softmax;
use candle_core::{D, Tensor};

/// The most scores computed at a time. A long prompt's queries go through in blocks, or its scores, which grow with
/// the square of its length, would outgrow the model.
const BLOCK: usize = 1 << 23;

/// How one kind of layer attends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub scale: f64,
    /// A token sees itself and so many minus one before it.
    pub window: Option<usize>,
    pub softcap: Option<f64>,
}

/// Queries (new, heads, size) over keys and values (key heads, all, size), of which the queries' own are the last.
///
/// Returns (new, heads * size). Keys and values are not repeated for the queries that share them: those queries are
/// put side by side as rows of one product.
pub(crate) fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, rule: Rule) -> candle_core::Result<Tensor> {
    let (new, heads, size) = q.dims3()?;
    let (key_heads, all, _) = keys.dims3()?;
    let shared = heads / key_heads;
    let before = all - new;
    let q = (q * rule.scale)?;
    if new == 1 {
        let first = rule.window.map_or(0, |window| all.saturating_sub(window));
        let q = q.reshape((key_heads, shared, size))?;
        let out = weigh(&q, keys, values, first..all, rule, None)?;
        return out.reshape((1, heads * size));
    }
    let q = q.reshape((new, key_heads, shared, size))?.permute((1, 2, 0, 3))?; // (key heads, shared, new, size)
    let block = (BLOCK / (heads * all)).clamp(1, new);
    let mut blocks = Vec::with_capacity(new.div_ceil(block));
    for start in (0..new).step_by(block) {
        let count = block.min(new - start);
        // Nothing after the block's last token is seen by any of it, and nothing before its first one's window.
        let end = before + start + count;
        let first = rule
            .window
            .map_or(0, |window| (before + start + 1).saturating_sub(window));
        let rows = q
            .narrow(2, start, count)?
            .contiguous()?
            .reshape((key_heads, shared * count, size))?;
        let mask = mask(count, before + start - first, end - first, rule.window, q.device())?;
        let out = weigh(&rows, keys, values, first..end, rule, Some(&mask))?;
        let out = out.reshape((key_heads, shared, count, size))?.permute((2, 0, 1, 3))?;
        blocks.push(out.reshape((count, heads * size))?);
    }
    if blocks.len() == 1 {
        Ok(blocks.remove(0))
    } else {
        Tensor::cat(&blocks, 0)
    }
}

/// Softmax-weighted values; `q` is (key heads, rows, size), and rows repeat the mask's rows.
fn weigh(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    seen: std::ops::Range<usize>,
    rule: Rule,
    mask: Option<&Tensor>,
) -> candle_core::Result<Tensor> {
    let keys = keys.narrow(1, seen.start, seen.len())?;
    let values = values.narrow(1, seen.start, seen.len())?;
    let mut scores = q.matmul(&keys.transpose(D::Minus1, D::Minus2)?)?;
    if let Some(cap) = rule.softcap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        let (key_heads, rows, columns) = scores.dims3()?;
        let (count, _) = mask.dims2()?;
        let apart = scores.reshape((key_heads, rows / count, count, columns))?;
        scores = apart
            .broadcast_add(&mask.to_dtype(scores.dtype())?)?
            .reshape((key_heads, rows, columns))?;
    }
    softmax(&scores)?.matmul(&values)
}

/// Zero where a query may look and minus infinity elsewhere; query `i` is column `own + i`.
fn mask(
    queries: usize,
    own: usize,
    columns: usize,
    window: Option<usize>,
    device: &candle_core::Device,
) -> candle_core::Result<Tensor> {
    let mut values = vec![f32::NEG_INFINITY; queries * columns];
    for (query, row) in values.chunks_mut(columns).enumerate() {
        let last = own + query;
        let first = window.map_or(0, |window| (last + 1).saturating_sub(window));
        row[first..=last].fill(0.0);
    }
    Tensor::from_vec(values, (queries, columns), device)
}
