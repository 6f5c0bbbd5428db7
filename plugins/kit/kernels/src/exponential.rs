//! Row-wise exponentials: attention's softmax, and the gate of a feed-forward.
//!
//! The standard library's works on one number at a time, and a long prompt needs some hundred million. This one is a
//! polynomial that compilers vectorise, off by at most two units in the last place.

use crate::kernel::cut;
use crate::packed::by_parts;
use crate::rowwise;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::{Arch, NullaryFnOnce};

/// Partial sums; a multiple of the width of any vector register.
const LANES: usize = 16;
/// Values of one task.
const TASK: usize = 1 << 14;

/// e to the power of x. NaN stays NaN; results outside of fp32's range are clamped instead of becoming zero or
/// infinity.
#[inline(always)]
#[allow(clippy::excessive_precision)] // the first two are one constant; its product with an integer is exact
pub fn exp(x: f32) -> f32 {
    // Comparisons that are false for NaN, so that NaN passes through.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    // Adding so large a number rounds to an integer, which is then in the lowest bits.
    const WHOLE: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    let rest = x - whole * 0.693_359_375 - whole * -2.121_944_4e-4;
    let mut sum = 1.987_569_15e-4;
    for factor in [1.398_199_95e-3, 8.333_451_9e-3, 4.166_579_6e-2, 1.666_666_55e-1, 0.5] {
        sum = sum * rest + factor;
    }
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1f32.to_bits()));
    (sum * rest * rest + rest + 1.0) * power
}

/// Turns scores into exponentials relative to the largest score, or to `least` if that is larger. Returns that maximum
/// and the sum. Inlined into functions that are compiled for the processor's registers.
#[inline(always)]
pub fn exponentials(scores: &mut [f32], least: f32) -> (f32, f32) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (lines, rest) = scores.as_chunks::<LANES>();
    for line in lines {
        for lane in 0..LANES {
            largest[lane] = if line[lane] > largest[lane] {
                line[lane]
            } else {
                largest[lane]
            };
        }
    }
    let largest = largest.iter().chain(rest).copied().fold(least, f32::max);
    let mut sums = [0f32; LANES];
    let (lines, rest) = scores.as_chunks_mut::<LANES>();
    for line in lines {
        for lane in 0..LANES {
            line[lane] = exp(line[lane] - largest);
            sums[lane] += line[lane];
        }
    }
    let mut sum: f32 = sums.iter().sum();
    for score in rest {
        *score = exp(*score - largest);
        sum += *score;
    }
    (largest, sum)
}

/// `silu(gate) * up`, if [`suits`] allows it.
pub fn silu_times(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.contiguous()?.apply_op2_no_bwd(&up.contiguous()?, &SiluTimes)
}

/// Whether no gradient is needed and the types are supported by these loops.
pub fn suits(gate: &Tensor, up: &Tensor) -> bool {
    rowwise::suits(&[gate, up])
}

struct SiluTimes;

impl CustomOp2 for SiluTimes {
    fn name(&self) -> &'static str {
        "silu-times"
    }

    fn cpu_fwd(&self, gate: &CpuStorage, gl: &Layout, up: &CpuStorage, ul: &Layout) -> Result<(CpuStorage, Shape)> {
        let (CpuStorage::F32(gate), CpuStorage::F32(up)) = (gate, up) else {
            candle_core::bail!("silu-times supports fp32 only");
        };
        let (gate, up) = (cut(gate, gl)?, cut(up, ul)?);
        let arch = Arch::new();
        let out = by_parts(gate.len(), 1, TASK, |first, out: &mut [f32]| {
            let part = first..first + out.len();
            let (gate, up) = (&gate[part.clone()], &up[part]);
            arch.dispatch(Gate { out, gate, up });
        });
        Ok((CpuStorage::F32(out), gl.shape().clone()))
    }
}

struct Gate<'a> {
    out: &'a mut [f32],
    gate: &'a [f32],
    up: &'a [f32],
}

impl NullaryFnOnce for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for ((out, gate), up) in self.out.iter_mut().zip(self.gate).zip(self.up) {
            *out = gate / (1.0 + exp(-gate)) * up;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn it_is_the_exponential() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01 + 0.003;
            let expected = f64::from(x).exp();
            let off = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(off < 2.5e-7, "exp({x}) is {}, expected {expected}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e9) < 2e-38 && exp(1e9) > 1e38);
    }

    #[test]
    fn exponentials_are_above_the_largest_and_feel_a_nan() {
        for count in [1, 5, 16, 50] {
            let scores: Vec<f32> = (0..count).map(|n| ((n * 37) % 19) as f32 - 9.0).collect();
            let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            for (least, above) in [(f32::NEG_INFINITY, largest), (12.0, 12.0)] {
                let mut got = scores.clone();
                let (most, sum) = exponentials(&mut got, least);
                let exact = |score: &f32| f64::from(score - above).exp();
                assert_eq!(most, above);
                assert!((f64::from(sum) - scores.iter().map(exact).sum::<f64>()).abs() < 1e-5);
                assert!(
                    got.iter()
                        .zip(&scores)
                        .all(|(got, score)| (f64::from(*got) - exact(score)).abs() < 1e-6)
                );
            }
            let mut got = scores.clone();
            got[count - 1] = f32::NAN;
            assert!(exponentials(&mut got, f32::NEG_INFINITY).1.is_nan());
        }
    }

    #[test]
    fn a_gate_is_what_candle_makes_in_two_steps() {
        let random = || Tensor::randn(0f32, 4.0, (7, 2500), &Device::Cpu).unwrap();
        let (gate, up) = (random(), random());
        assert!(suits(&gate, &up));
        assert!(!suits(&gate.to_dtype(DType::BF16).unwrap(), &up));
        let expected = (gate.silu().unwrap() * &up).unwrap();
        let got = silu_times(&gate, &up).unwrap();
        let apart = (got - expected).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() < 1e-5);
    }
}
