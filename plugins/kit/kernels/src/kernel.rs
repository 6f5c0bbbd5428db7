//! The product with a dense matrix, on the CPU.
//!
//! To generate one token, every weight is read once and used for a few rows, so memory bandwidth is the limit.
//! candle's product packs the weights first, which pays for many rows only, and widens a whole bf16 matrix at each
//! call. This one streams them and widens in registers.
//!
//! Each row is summed in the same order whatever the other rows, so answers do not affect each other. candle's order
//! depends on the number of rows, so this product is used for any number. Packed weights of layers do not use it.

use crate::device::own_kernels;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, WithDType};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Outputs of one task.
const TASK: usize = 64;
/// Partial sums of a dot product; a multiple of the width of any vector register.
const LANES: usize = 16;
/// Whether [`by_dots`] can multiply `x` (rows, in) by `weight` (out, in) transposed.
pub fn suits(x: &Tensor, weight: &Tensor) -> bool {
    let known = matches!(weight.dtype(), DType::F32 | DType::BF16 | DType::F16) && x.dtype() == weight.dtype();
    let learns = x.track_op() || weight.track_op();
    known && !learns && own_kernels(x.device()) && weight.is_contiguous()
}

/// `x` (rows, in) times `weight` (out, in) transposed.
pub fn by_dots(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(weight, &ByDots)
}

struct ByDots;

impl CustomOp2 for ByDots {
    fn name(&self) -> &'static str {
        "by-dots"
    }

    fn cpu_fwd(&self, x: &CpuStorage, xl: &Layout, w: &CpuStorage, wl: &Layout) -> Result<(CpuStorage, Shape)> {
        let ((rows, inputs), (outputs, _)) = (xl.shape().dims2()?, wl.shape().dims2()?);
        let storage = match (x, w) {
            (CpuStorage::F32(x), CpuStorage::F32(w)) => product(cut(x, xl)?, cut(w, wl)?, inputs),
            (CpuStorage::BF16(x), CpuStorage::BF16(w)) => product(cut(x, xl)?, cut(w, wl)?, inputs),
            (CpuStorage::F16(x), CpuStorage::F16(w)) => product(cut(x, xl)?, cut(w, wl)?, inputs),
            _ => candle_core::bail!("by-dots does not support these types"),
        };
        Ok((storage, (rows, outputs).into()))
    }
}

pub fn cut<'a, T>(values: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => candle_core::bail!("by-dots needs contiguous values"),
    }
}

/// A stored value, widened when it is used.
pub trait Stored: WithDType {
    fn wide(self) -> f32;
    fn narrow(wide: f32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        wide
    }
}

impl Stored for half::bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        // Not `to_f32`, whose handling of signalling NaNs prevents vectorisation.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        half::bf16::from_f32(wide)
    }
}

impl Stored for half::f16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self.to_f32()
    }

    #[inline(always)]
    fn narrow(wide: f32) -> Self {
        half::f16::from_f32(wide)
    }
}

fn product<T: Stored>(x: &[T], weight: &[T], inputs: usize) -> CpuStorage {
    let rows = x.len() / inputs;
    let outputs = weight.len() / inputs;
    let x: Vec<f32> = x.iter().map(|value| value.wide()).collect();
    let arch = Arch::new();
    // Output by output, so that tasks write to separate memory; transposed at the end.
    let mut columns = vec![T::narrow(0.0); rows * outputs];
    columns
        .par_chunks_mut(rows * TASK)
        .zip(weight.par_chunks(inputs * TASK))
        .for_each(|(columns, weight)| {
            arch.dispatch(Task {
                columns,
                weight,
                x: &x,
                rows,
                inputs,
            });
        });
    if rows == 1 {
        return T::to_cpu_storage_owned(columns);
    }
    let turned = (0..rows * outputs)
        .map(|place| columns[place % outputs * rows + place / outputs])
        .collect();
    T::to_cpu_storage_owned(turned)
}

/// Some outputs of all rows. A struct and not a closure, since only code that is inlined into the dispatching function
/// is compiled for the wider registers.
struct Task<'a, T> {
    columns: &'a mut [T],
    weight: &'a [T],
    x: &'a [f32],
    rows: usize,
    inputs: usize,
}

impl<T: Stored> NullaryFnOnce for Task<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (column, weights) in self
            .columns
            .chunks_exact_mut(self.rows)
            .zip(self.weight.chunks_exact(self.inputs))
        {
            for (out, x) in column.iter_mut().zip(self.x.chunks_exact(self.inputs)) {
                *out = T::narrow(dot(weights, x));
            }
        }
    }
}

/// A dot product of one row of weights and one of `x`. With more rows at a time, compilers no longer keep the sums in
/// registers.
#[inline(always)]
pub fn dot<T: Stored>(weights: &[T], x: &[f32]) -> f32 {
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    let (x, x_rest) = x.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for (weights, x) in weights.iter().zip(x) {
        for lane in 0..LANES {
            sums[lane] += weights[lane].wide() * x[lane];
        }
    }
    let rest: f32 = weights_rest
        .iter()
        .zip(x_rest)
        .map(|(weight, x)| weight.wide() * x)
        .sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[track_caller]
    fn check(rows: usize, inputs: usize, outputs: usize, dtype: DType) {
        let random = |shape: (usize, usize)| {
            Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
                .unwrap()
                .to_dtype(dtype)
                .unwrap()
        };
        let (x, weight) = (random((rows, inputs)), random((outputs, inputs)));
        assert!(suits(&x, &weight));
        let got = by_dots(&x, &weight).unwrap();
        let other_way = {
            let _elsewhere = crate::device::elsewhere();
            assert!(!suits(&x, &weight));
            x.matmul(&weight.t().unwrap()).unwrap()
        };
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let expected = wide(&x).matmul(&wide(&weight).t().unwrap()).unwrap();
        let apart = |got: &Tensor| {
            let apart = (wide(got) - &expected).unwrap().abs().unwrap().max_all().unwrap();
            apart.to_scalar::<f64>().unwrap()
        };
        // Half a unit in the last place of the largest sums, which are about four times the square root of the length.
        let step = if dtype == DType::F32 {
            1e-6
        } else if dtype == DType::F16 {
            1e-3
        } else {
            8e-3
        };
        let bound = 4.0 * (inputs as f64).sqrt() * step + step;
        assert!(
            apart(&got) <= bound && apart(&other_way) <= bound,
            "{rows} x {inputs} x {outputs} {dtype:?}"
        );
    }

    #[test]
    fn it_is_the_product() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            for rows in [1, 2, 3, 8, 32, 70] {
                check(rows, 64, 200, dtype);
                check(rows, 37, 3, dtype);
            }
            check(5, 1, 1, dtype);
            check(3, 1000, 129, dtype);
        }
    }

    #[test]
    fn a_row_does_not_feel_the_others() {
        let x = Tensor::randn(0f32, 1.0, (7, 100), &Device::Cpu).unwrap();
        let weight = Tensor::randn(0f32, 1.0, (90, 100), &Device::Cpu).unwrap();
        let together = by_dots(&x, &weight).unwrap().to_vec2::<f32>().unwrap();
        for (row, together) in together.iter().enumerate() {
            let alone = by_dots(&x.narrow(0, row, 1).unwrap(), &weight)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            assert_eq!(alone[0], *together);
        }
    }
}
