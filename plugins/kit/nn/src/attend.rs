//! Attention: the one place that handles masks, grouped heads and windows.
//!
//! This version uses candle's operations, which work on every device and have gradients. On a CPU without gradients,
//! [`attention`] computes all texts at once.

use crate::layers::{softcap, softmax};
use candle_core::{D, DType, Device, Tensor};
use kernels::attention::{self, Rule, Text};
use kernels::device::own_kernels;
use kernels::rowwise;

/// The most scores computed at a time. A long prompt's queries are computed in blocks, since all its scores, which
/// grow with the square of its length, would take more memory than the model. This many fit into a core's own cache.
const BLOCK: usize = 1 << 20;
/// The same for a GPU, where starting each product takes time: few large blocks.
const LARGE_BLOCK: usize = 1 << 26;

fn block(device: &Device) -> usize {
    if own_kernels(device) { BLOCK } else { LARGE_BLOCK }
}

/// Queries (new, heads, size) over keys and values (key heads, all, size), of which the queries' own are the last.
///
/// Returns (new, heads * size). Keys and values are not repeated for the queries that share them: these queries become
/// rows of one product.
pub(crate) fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, rule: Rule) -> candle_core::Result<Tensor> {
    attend_in_blocks(q, keys, values, rule, block(q.device()))
}

/// Attention over all keys of a text, before and after each query, without positions, as in encoders; (tokens, heads *
/// size) in and out. `texts` are the lengths of consecutive texts, `products` the type that numbers are rounded to
/// before they are multiplied. The scale follows from the head size.
pub(crate) fn attend_to_all(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    heads: usize,
    texts: &[usize],
    products: DType,
) -> candle_core::Result<Tensor> {
    let (tokens, width) = q.dims2()?;
    let size = width / heads;
    let mut start = 0;
    let places = texts.iter().map(|&tokens| {
        start += tokens;
        (start - tokens, tokens)
    });
    if rowwise::suits(&[q, keys, values]) {
        let split = |x: &Tensor| x.contiguous()?.reshape((tokens, heads, size));
        let (q, keys, values) = (split(q)?, split(keys)?, split(values)?);
        let text = |(start, tokens): (usize, usize)| {
            let seen = (keys.narrow(0, start, tokens)?, values.narrow(0, start, tokens)?);
            Ok::<_, candle_core::Error>(Text {
                tokens,
                seen: vec![seen],
            })
        };
        let texts: Vec<Text> = places.map(text).collect::<candle_core::Result<_>>()?;
        let rule = Rule {
            scale: 1.0 / (size as f64).sqrt(),
            window: None,
            softcap: None,
            ahead: true,
            bf16: products == DType::BF16,
        };
        return attention::attend(&q, &texts, rule);
    }
    let mut outputs = Vec::with_capacity(texts.len());
    for (start, tokens) in places {
        let own = |x: &Tensor| {
            let x = x.narrow(0, start, tokens)?.reshape((tokens, heads, size))?;
            x.transpose(0, 1)?.contiguous()
        };
        let q = (own(q)? * (1.0 / (size as f64).sqrt()))?;
        let (keys, values) = (own(keys)?.transpose(1, 2)?, own(values)?);
        let block = (block(q.device()) / (heads * tokens).max(1)).clamp(1, tokens.max(1));
        for start in (0..tokens).step_by(block) {
            let count = block.min(tokens - start);
            let scores = q.narrow(1, start, count)?.matmul(&keys)?;
            let out = softmax(&scores)?.matmul(&values)?; // (heads, count, size)
            outputs.push(out.transpose(0, 1)?.reshape((count, width))?);
        }
    }
    Tensor::cat(&outputs, 0)
}

fn attend_in_blocks(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    rule: Rule,
    most_scores: usize,
) -> candle_core::Result<Tensor> {
    let (keys, values) = (&dense(keys)?, &dense(values)?);
    let (new, heads, size) = q.dims3()?;
    let (key_heads, all, _) = keys.dims3()?;
    let shared = heads / key_heads;
    let before = all - new;
    if new == 1 {
        let first = rule.window.map_or(0, |window| all.saturating_sub(window));
        let q = (q.reshape((key_heads, shared, size))? * rule.scale)?;
        let out = weigh(&q, keys, values, first..all, rule, None)?;
        return out.reshape((1, heads * size));
    }
    let q = (q * rule.scale)?
        .reshape((new, key_heads, shared, size))?
        .permute((1, 2, 0, 3))?; // (key heads, shared, new, size)
    let block = (most_scores / (heads * all)).clamp(1, new);
    let mut blocks = Vec::with_capacity(new.div_ceil(block));
    for start in (0..new).step_by(block) {
        let count = block.min(new - start);
        // No query of the block sees keys after its last token, or before its first one's window.
        let end = before + start + count;
        let first = rule
            .window
            .map_or(0, |window| (before + start + 1).saturating_sub(window));
        let rows = q
            .narrow(2, start, count)?
            .contiguous()?
            .reshape((key_heads, shared * count, size))?;
        let sight = Sight {
            queries: count,
            own: before + start - first,
            window: rule.window,
        };
        let out = weigh(&rows, keys, values, first..end, rule, Some(sight))?;
        let out = out.reshape((key_heads, shared, count, size))?.permute((2, 0, 1, 3))?;
        blocks.push(out.reshape((count, heads * size))?);
    }
    if blocks.len() == 1 {
        Ok(blocks.remove(0))
    } else {
        Tensor::cat(&blocks, 0)
    }
}

/// Makes each head's rows contiguous: products on a GPU refuse other layouts. Rows in a cache need no copy, even with
/// room after them.
fn dense(x: &Tensor) -> candle_core::Result<Tensor> {
    let (_, _, size) = x.dims3()?;
    match x.stride()[1..] == [size, 1] {
        true => Ok(x.clone()),
        false => x.contiguous(),
    }
}

/// Softmax-weighted values; `q` is (key heads, rows, size), and the rows repeat the queries of `sight`.
fn weigh(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    seen: std::ops::Range<usize>,
    rule: Rule,
    sight: Option<Sight>,
) -> candle_core::Result<Tensor> {
    let keys = keys.narrow(1, seen.start, seen.len())?;
    let values = values.narrow(1, seen.start, seen.len())?;
    let mut scores = q.matmul(&keys.transpose(D::Minus1, D::Minus2)?)?;
    if let Some(cap) = rule.softcap {
        scores = softcap(&scores, cap)?;
    }
    let Some(sight) = sight else {
        return softmax(&scores)?.matmul(&values);
    };
    let (key_heads, rows, columns) = scores.dims3()?;
    let mask = sight.mask(columns, q.device())?.to_dtype(scores.dtype())?;
    let apart = scores.reshape((key_heads, rows / sight.queries, sight.queries, columns))?;
    let masked = apart.broadcast_add(&mask)?.reshape((key_heads, rows, columns))?;
    softmax(&masked)?.matmul(&values)
}

/// What some consecutive queries may see.
struct Sight {
    queries: usize,
    /// The column of the first query's own key.
    own: usize,
    window: Option<usize>,
}

impl Sight {
    fn of(&self, query: usize) -> std::ops::RangeInclusive<usize> {
        let last = self.own + query;
        self.window.map_or(0, |window| (last + 1).saturating_sub(window))..=last
    }

    /// Zero where a query may look, and minus infinity elsewhere. Computed where it is used, since it is large.
    fn mask(&self, columns: usize, device: &Device) -> candle_core::Result<Tensor> {
        let all = |end: fn(&Sight, usize) -> usize| {
            let ends: Vec<u32> = (0..self.queries).map(|query| end(self, query) as u32).collect();
            Tensor::from_vec(ends, (self.queries, 1), device)
        };
        let column = Tensor::arange(0, columns as u32, device)?.unsqueeze(0)?;
        let mut seen = column.broadcast_le(&all(|sight, query| *sight.of(query).end())?)?;
        if self.window.is_some() {
            seen = (seen * column.broadcast_ge(&all(|sight, query| *sight.of(query).start())?)?)?;
        }
        let everywhere = |value: f32| Tensor::new(value, device)?.broadcast_as(seen.shape());
        seen.where_cond(&everywhere(0.0)?, &everywhere(f32::NEG_INFINITY)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::device::elsewhere;

    /// Attention by its definition, one number at a time.
    #[allow(clippy::needless_range_loop)] // indices follow the definition
    fn plainly(q: &Tensor, k: &Tensor, v: &Tensor, rule: Rule) -> Vec<f32> {
        let (q, k, v) = (
            q.to_vec3::<f32>().unwrap(),
            k.to_vec3::<f32>().unwrap(),
            v.to_vec3::<f32>().unwrap(),
        );
        let (new, heads, all, size) = (q.len(), q[0].len(), k[0].len(), q[0][0].len());
        let mut out = Vec::new();
        for token in 0..new {
            for head in 0..heads {
                let shared = head * k.len() / heads;
                let place = all - new + token;
                let first = rule.window.map_or(0, |window| (place + 1).saturating_sub(window));
                let last = if rule.ahead { all - 1 } else { place };
                let score = |key: usize| {
                    let dot: f64 = (0..size)
                        .map(|i| f64::from(q[token][head][i] * k[shared][key][i]))
                        .sum();
                    rule.softcap
                        .map_or(dot * rule.scale, |cap| cap * (dot * rule.scale / cap).tanh())
                };
                let weights: Vec<f64> = (first..=last).map(|key| score(key).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for i in 0..size {
                    let value = |(n, weight): (usize, &f64)| weight / sum * f64::from(v[shared][first + n][i]);
                    out.push(weights.iter().enumerate().map(value).sum::<f64>() as f32);
                }
            }
        }
        out
    }

    #[track_caller]
    fn check(new: usize, all: usize, window: Option<usize>, softcap: Option<f64>, most_scores: usize) {
        let random = |shape: (usize, usize, usize)| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let (q, k, v) = (random((new, 6, 8)), random((2, all, 8)), random((2, all, 8)));
        let rule = Rule {
            scale: 0.3,
            window,
            softcap,
            ahead: false,
            bf16: false,
        };
        // Keys in a cache with room after them, and queries with gradients, which take the general path.
        let room = Tensor::cat(&[&k, &random((2, 3, 8))], 1)
            .unwrap()
            .narrow(1, 0, all)
            .unwrap();
        let learning = candle_core::Var::from_tensor(&q).unwrap();
        for (q, k) in [(&q, &k), (&q, &room), (learning.as_tensor(), &k)] {
            let got = attend_in_blocks(q, k, &v, rule, most_scores).unwrap();
            compare(&got, &plainly(q, k, &v, rule));
        }
    }

    /// All texts of a pass at once: queries of `new` tokens each, and keys in pieces with various layouts.
    #[track_caller]
    fn check_together(texts: &[(usize, &[usize])], heads: usize, size: usize, rule: Rule) {
        let random = |shape: (usize, usize, usize)| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
        let (mut queries, mut all, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for &(new, pieces) in texts {
            let q = random((new, heads, size));
            let piece = |(number, &tokens): (usize, &usize)| match number % 2 {
                0 => random((2, tokens + 3, size))
                    .narrow(1, 1, tokens)
                    .unwrap()
                    .transpose(0, 1)
                    .unwrap(),
                _ => random((tokens, 2, size)),
            };
            let make = || pieces.iter().enumerate().map(piece).collect::<Vec<_>>();
            let (keys, values) = (make(), make());
            let joined = |pieces: &[Tensor]| Tensor::cat(pieces, 0).unwrap().transpose(0, 1).unwrap();
            expected.extend(plainly(&q, &joined(&keys), &joined(&values), rule));
            queries.push(q);
            all.push(Text {
                tokens: new,
                seen: keys.into_iter().zip(values).collect(),
            });
        }
        let q = Tensor::cat(&queries, 0).unwrap();
        let together = attention::attend(&q, &all, rule).unwrap();
        if !rule.bf16 {
            return compare(&together, &expected);
        }
        // Numbers here have a deviation of one; with few queries, nothing is rounded.
        let together = together.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let apart: Vec<f32> = together.iter().zip(&expected).map(|(got, at)| got - at).collect();
        let largest = apart.iter().fold(0f32, |largest, apart| largest.max(apart.abs()));
        let mean = (apart.iter().map(|apart| apart * apart).sum::<f32>() / apart.len() as f32).sqrt();
        assert!(
            largest < 0.02 && mean < 0.003,
            "{texts:?}, {heads} heads of {size}: {largest}, {mean}"
        );
        let mut alone = Vec::new();
        for (q, text) in queries.iter().zip(all) {
            let text = attention::attend(q, &[text], rule).unwrap();
            alone.extend(text.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        assert_eq!(alone, together, "texts feel each other");
    }

    #[track_caller]
    fn compare(got: &Tensor, expected: &[f32]) {
        let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(got.len(), expected.len());
        for (place, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (got - expected).abs() < 1e-5,
                "value {place}: {got}, expected {expected}"
            );
        }
    }

    #[test]
    fn in_bf16_it_is_near_the_definition_by_a_bound() {
        for (window, ahead) in [(None, true), (None, false), (Some(70), false)] {
            for (heads, size) in [(2, 8), (6, 7), (4, 40), (2, 64)] {
                let rule = Rule {
                    scale: 1.0 / (size as f64).sqrt(),
                    window,
                    softcap: None,
                    ahead,
                    bf16: true,
                };
                check_together(&[(40, &[40]), (1, &[9]), (33, &[33]), (100, &[100])], heads, size, rule);
                check_together(&[(45, &[20, 70]), (17, &[17])], heads, size, rule);
                check_together(&[(530, &[530]), (513, &[513])], heads, size, rule);
            }
        }
    }

    #[test]
    fn texts_together_are_what_the_definition_says() {
        for (window, softcap, ahead) in [
            (None, None, false),
            (Some(3), None, false),
            (Some(70), Some(2.0), false),
            (None, None, true),
        ] {
            let rule = Rule {
                scale: 0.3,
                window,
                softcap,
                ahead,
                bf16: false,
            };
            for (heads, size) in [(2, 8), (4, 40), (6, 64)] {
                check_together(&[(1, &[1])], heads, size, rule);
                check_together(&[(1, &[40]), (2, &[30, 2]), (1, &[5])], heads, size, rule);
                check_together(&[(10, &[10]), (45, &[20, 70]), (3, &[3])], heads, size, rule);
            }
            // More keys than are packed at a time.
            check_together(&[(30, &[600, 500])], 4, 8, rule);
            check_together(&[(700, &[700]), (20, &[1030])], 2, 16, rule);
        }
    }

    #[test]
    fn it_is_what_the_definition_says() {
        for most_scores in [usize::MAX, 6 * 10 * 3, 1] {
            check(10, 10, None, None, most_scores);
            check(4, 10, None, None, most_scores);
            check(1, 10, None, None, most_scores);
            check(1, 1, None, None, most_scores);
            for window in [1, 3, 10, 50] {
                check(10, 10, Some(window), None, most_scores);
                check(4, 10, Some(window), None, most_scores);
                check(1, 10, Some(window), None, most_scores);
            }
            check(5, 7, Some(4), Some(2.0), most_scores);
            check(1, 7, Some(4), Some(2.0), most_scores);
        }
    }

    #[test]
    fn heads_are_laid_out_as_a_gpu_takes_them() {
        let by_token = Tensor::randn(0f32, 1.0, (7, 2, 8), &Device::Cpu).unwrap();
        let by_head = by_token.transpose(0, 1).unwrap();
        assert_eq!(dense(&by_head).unwrap().stride(), [56, 8, 1]);
        let cached = Tensor::zeros((2, 64, 8), DType::F32, &Device::Cpu).unwrap();
        let first = cached.narrow(1, 0, 7).unwrap();
        assert_eq!(dense(&first).unwrap().stride(), [512, 8, 1]);
    }

    #[test]
    fn an_encoders_steps_see_all_others_either_way() {
        let random = || Tensor::randn(0f32, 1.0, (40, 48), &Device::Cpu).unwrap();
        let (q, k, v) = (random(), random(), random());
        let attended = || attend_to_all(&q, &k, &v, 6, &[3, 30, 7], DType::F32).unwrap();
        let here = attended();
        let _elsewhere = elsewhere();
        let apart = (attended() - here).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-5);
    }

    #[test]
    fn narrow_types_are_summed_wide() {
        // 4096 equal keys: in bf16, the sum of their weights would stop at 256.
        let ones = Tensor::ones((1, 4096, 8), DType::BF16, &Device::Cpu).unwrap();
        let q = Tensor::ones((1, 1, 8), DType::BF16, &Device::Cpu).unwrap();
        let out = attend(
            &q,
            &ones,
            &ones,
            Rule {
                scale: 1.0,
                window: None,
                softcap: None,
                ahead: false,
                bf16: false,
            },
        )
        .unwrap();
        let out = out
            .to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        assert!(out.iter().all(|x| (x - 1.0).abs() < 0.01), "{out:?}");
    }
}
