//! Attention of a single new token, on the CPU.
//!
//! Keys and values are read once, where they lie in the cache, for all the queries that share them. candle's product
//! would copy them into packed panels first, for two rows of queries.

use crate::attend::Rule;
use crate::device::own_kernels;
use crate::exponential::softmax;
use crate::kernel::{Stored, cut, dot};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Whether [`attend`] can do it. A training path goes the way that has gradients.
pub(crate) fn suits(q: &Tensor, keys: &Tensor, values: &Tensor) -> bool {
    let all = [q, keys, values];
    own_kernels(q.device())
        && matches!(q.dtype(), candle_core::DType::F32 | candle_core::DType::BF16 | candle_core::DType::F16)
        && all.iter().all(|tensor| !tensor.track_op() && tensor.dtype() == q.dtype())
        // Along a head's tokens the values must be dense; heads may lie apart, as they do in a cache with room.
        && [keys, values].iter().all(|tensor| tensor.stride()[1..] == [q.dims()[2], 1])
}

/// Queries (key heads, shared, size) over keys and values (key heads, all, size) from token `first` on.
pub(crate) fn attend(q: &Tensor, keys: &Tensor, values: &Tensor, first: usize, rule: Rule) -> Result<Tensor> {
    q.contiguous()?
        .apply_op3_no_bwd(keys, values, &OneQuery { first, rule })
}

struct OneQuery {
    first: usize,
    rule: Rule,
}

impl CustomOp3 for OneQuery {
    fn name(&self) -> &'static str {
        "one-query"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        ql: &Layout,
        k: &CpuStorage,
        kl: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let storage = match (q, k, v) {
            (CpuStorage::F32(q), CpuStorage::F32(k), CpuStorage::F32(v)) => self.run(cut(q, ql)?, ql, k, kl, v, vl)?,
            (CpuStorage::BF16(q), CpuStorage::BF16(k), CpuStorage::BF16(v)) => {
                self.run(cut(q, ql)?, ql, k, kl, v, vl)?
            }
            (CpuStorage::F16(q), CpuStorage::F16(k), CpuStorage::F16(v)) => self.run(cut(q, ql)?, ql, k, kl, v, vl)?,
            _ => candle_core::bail!("one-query knows no attention of these types"),
        };
        Ok((storage, ql.shape().clone()))
    }
}

impl OneQuery {
    fn run<T: Stored>(&self, q: &[T], ql: &Layout, k: &[T], kl: &Layout, v: &[T], vl: &Layout) -> Result<CpuStorage> {
        let (_, shared, size) = ql.shape().dims3()?;
        let (_, all, _) = kl.shape().dims3()?;
        let arch = Arch::new();
        let mut out = vec![T::narrow(0.0); q.len()];
        let heads = out
            .par_chunks_mut(shared * size)
            .zip(q.par_chunks(shared * size))
            .enumerate();
        heads.for_each(|(head, (out, q))| {
            let dense = |values: &'_ [T], layout: &Layout| {
                let start = layout.start_offset() + head * layout.stride()[0];
                start + self.first * size..(start + all * size).min(values.len())
            };
            let (keys, values) = (&k[dense(k, kl)], &v[dense(v, vl)]);
            arch.dispatch(Head {
                q,
                keys,
                values,
                out,
                size,
                rule: self.rule,
            });
        });
        Ok(T::to_cpu_storage_owned(out))
    }
}

/// The queries of one key head.
struct Head<'a, T> {
    q: &'a [T],
    keys: &'a [T],
    values: &'a [T],
    out: &'a mut [T],
    size: usize,
    rule: Rule,
}

impl<T: Stored> NullaryFnOnce for Head<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Head { size, rule, .. } = self;
        let (count, shared) = (self.keys.len() / size, self.q.len() / size);
        let q: Vec<f32> = self.q.iter().map(|value| value.wide()).collect();
        let mut weights = vec![0f32; shared * count];
        for (token, key) in self.keys.chunks_exact(size).enumerate() {
            for (query, q) in q.chunks_exact(size).enumerate() {
                let score = dot(key, q) * rule.scale as f32;
                weights[query * count + token] = match rule.softcap {
                    Some(cap) => (score / cap as f32).tanh() * cap as f32,
                    None => score,
                };
            }
        }
        for weights in weights.chunks_exact_mut(count) {
            softmax(weights);
        }
        let mut sums = vec![0f32; shared * size];
        for (token, value) in self.values.chunks_exact(size).enumerate() {
            for (query, sums) in sums.chunks_exact_mut(size).enumerate() {
                let weight = weights[query * count + token];
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum += weight * value.wide();
                }
            }
        }
        for (out, sum) in self.out.iter_mut().zip(sums) {
            *out = T::narrow(sum);
        }
    }
}
