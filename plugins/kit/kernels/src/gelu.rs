//! GELU by the error function, on all cores.
//!
//! candle computes it in fp64 one value after the other, which in an audio encoder takes as long as a matrix product.

use crate::packed::by_parts;
use crate::rowwise::{self, Held};
use candle_core::{Device, Result, Tensor};
use pulp::{Arch, NullaryFnOnce};
use std::f32::consts::FRAC_1_SQRT_2;

/// Values of one task.
const TASK: usize = 1 << 14;

pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !rowwise::suits(&[x]) {
        return x.gelu_erf();
    }
    let x = x.contiguous()?;
    let held = Held::of(&x);
    let values = held.all()?;
    let arch = Arch::new();
    let y = by_parts(values.len(), 1, TASK, |first, y: &mut [f32]| {
        let x = &values[first..first + y.len()];
        arch.dispatch(Task { y, x });
    });
    Tensor::from_vec(y, x.shape(), &Device::Cpu)
}

struct Task<'a> {
    y: &'a mut [f32],
    x: &'a [f32],
}

impl NullaryFnOnce for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = gelu_of(x);
        }
    }
}

/// GELU of one value. Inlined into functions that are compiled for the processor's registers.
#[inline(always)]
pub fn gelu_of(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2))
}

/// Beyond this, erf is 1 in fp32.
const END: f32 = 3.9;

/// The error function within 4e-7: a quotient of polynomials in x², fitted for the smallest maximum error up to
/// [`END`]. NaN stays NaN.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 7] = [
        1.128_378_8,
        2.042_241_5e-1,
        5.114_880_7e-2,
        3.896_251_8e-3,
        1.474_745_1e-4,
        -1.996_93e-6,
        2.011_880_7e-8,
    ];
    const BELOW: [f32; 5] = [1.0, 5.143_18e-1, 1.167_852_1e-1, 1.473_043_2e-2, 1.006_597_4e-3];
    let x = x.clamp(-END, END);
    let square = x * x;
    let at = |parts: &[f32]| parts.iter().rev().fold(0.0f32, |sum, part| sum.mul_add(square, *part));
    x * at(&ABOVE) / at(&BELOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    #[test]
    fn it_is_what_the_definition_says() {
        let x: Vec<f32> = (-80_000..=80_000).map(|n| n as f32 * 1e-4).collect();
        let x = Tensor::new(x, &Device::Cpu).unwrap();
        let exact = x.to_dtype(DType::F64).unwrap().gelu_erf().unwrap();
        let apart = (gelu(&x).unwrap().to_dtype(DType::F64).unwrap() - exact).unwrap();
        let worst = apart.abs().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
        assert!(worst < 2e-6, "{worst}"); // for values up to 8
        let here = gelu(&x).unwrap();
        let _elsewhere = crate::device::elsewhere();
        let apart = (gelu(&x).unwrap() - here).unwrap().abs().unwrap().max(0).unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 2e-6);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let x = Tensor::new(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &Device::Cpu).unwrap();
        let y = gelu(&x).unwrap().to_vec1::<f32>().unwrap();
        assert!(y[0].is_nan());
        assert_eq!(y[1], f32::INFINITY);
    }
}
