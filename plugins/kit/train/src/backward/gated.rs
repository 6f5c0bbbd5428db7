//! Element-wise functions: activations and the gated product.

use crate::products::vector::{exp, vectorised};
use nn::Activation;
use rayon::prelude::*;

const TASK: usize = 1 << 13;
const ROOT: f32 = 0.797_884_6; // of 2 / pi
const CUBIC: f32 = 0.044_715;

#[inline(always)]
fn tanh(x: f32) -> f32 {
    // Beyond 9 the result rounds to 1; near zero, (1 - e) / (1 + e) loses digits, so a series is used.
    if x.abs() < 0.1 {
        let square = x * x;
        return x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    }
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// The error function, to 1.2e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = f64::from(x.abs());
    if size < 0.5 {
        // A series, exact in fp32 near zero.
        let square = size * size;
        let series = 1.0
            - square
                * (1.0 / 3.0
                    - square
                        * (1.0 / 10.0
                            - square
                                * (1.0 / 42.0 - square * (1.0 / 216.0 - square * (1.0 / 1320.0 - square / 9360.0)))));
        return (std::f64::consts::FRAC_2_SQRT_PI * size * series) as f32 * x.signum();
    }
    // Chebyshev's expansion of the complement (Press et al., Numerical Recipes, `erfcc`), in fp64.
    let t = 1.0 / (1.0 + 0.5 * size);
    let p = t * (0.170_872_77);
    let p = t * (-0.822_152_23 + p);
    let p = t * (1.488_515_87 + p);
    let p = t * (-1.135_203_98 + p);
    let p = t * (0.278_868_07 + p);
    let p = t * (-0.186_288_06 + p);
    let p = t * (0.096_784_18 + p);
    let p = t * (0.374_091_96 + p);
    let p = t * (1.000_023_68 + p);
    let complement = t * (-size * size - 1.265_512_23 + p).exp();
    (1.0 - complement) as f32 * x.signum()
}

/// An activation's value and derivative.
#[inline(always)]
fn value_and_slope(activation: Activation, x: f32) -> (f32, f32) {
    match activation {
        Activation::Silu => {
            let gate = 1.0 / (1.0 + exp(-x));
            (x * gate, gate * (1.0 + x * (1.0 - gate)))
        }
        Activation::GeluTanh => {
            let inner = ROOT * (x + CUBIC * x * x * x);
            let t = tanh(inner);
            let slope = ROOT * (1.0 + 3.0 * CUBIC * x * x);
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
        }
        Activation::GeluErf => {
            let half = 0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2));
            let bell = 0.398_942_3 * exp(-0.5 * x * x);
            (x * half, half + x * bell)
        }
    }
}

/// Runs a loop with the processor's instructions; the activation is a compile-time constant in it.
#[inline(always)]
fn vectorised_by_kind(activation: Activation, mut work: impl FnMut(Activation)) {
    vectorised(
        #[inline(always)]
        || match activation {
            Activation::Silu => work(Activation::Silu),
            Activation::GeluTanh => work(Activation::GeluTanh),
            Activation::GeluErf => work(Activation::GeluErf),
        },
    );
}

/// `y = act(gate) * up`.
pub(crate) fn forward(activation: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    let parts = y
        .par_chunks_mut(TASK)
        .zip(gate.par_chunks(TASK))
        .zip(up.par_chunks(TASK));
    parts.for_each(|((y, gate), up)| {
        vectorised_by_kind(
            activation,
            #[inline(always)]
            |activation| {
                for ((y, &gate), up) in y.iter_mut().zip(gate).zip(up) {
                    *y = value_and_slope(activation, gate).0 * up;
                }
            },
        );
    });
}

/// From the gradient of y to those of gate and up, which overwrite them.
pub(crate) fn backward(activation: Activation, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let parts = gate
        .par_chunks_mut(TASK)
        .zip(up.par_chunks_mut(TASK))
        .zip(dy.par_chunks(TASK));
    parts.for_each(|((gate, up), dy)| {
        vectorised_by_kind(
            activation,
            #[inline(always)]
            |activation| {
                for ((gate, up), dy) in gate.iter_mut().zip(up.iter_mut()).zip(dy) {
                    let (value, slope) = value_and_slope(activation, *gate);
                    *gate = dy * *up * slope;
                    *up = dy * value;
                }
            },
        );
    });
}

/// `y = act(x)`.
pub(crate) fn activate(activation: Activation, x: &[f32], y: &mut [f32]) {
    let parts = y.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
    parts.for_each(|(y, x)| {
        vectorised_by_kind(
            activation,
            #[inline(always)]
            |activation| {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = value_and_slope(activation, x).0;
                }
            },
        );
    });
}

/// From the gradient of `act(x)` to that of x, which overwrites it.
pub(crate) fn activate_backward(activation: Activation, x: &[f32], dy: &mut [f32]) {
    let parts = dy.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
    parts.for_each(|(dy, x)| {
        vectorised_by_kind(
            activation,
            #[inline(always)]
            |activation| {
                for (dy, &x) in dy.iter_mut().zip(x) {
                    *dy *= value_and_slope(activation, x).1;
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_the_values() {
        for activation in [Activation::Silu, Activation::GeluTanh, Activation::GeluErf] {
            for n in -500..500 {
                let (x, step) = (n as f32 / 90.0 + 0.001, 1e-2f32);
                let value = |x| f64::from(value_and_slope(activation, x).0);
                let secant = (value(x + step) - value(x - step)) / f64::from((x + step) - (x - step));
                let slope = f64::from(value_and_slope(activation, x).1);
                assert!(
                    (secant - slope).abs() < 1e-4,
                    "{activation:?} at {x}: {slope}, {secant}"
                );
            }
        }
    }

    #[test]
    fn the_error_function_is_right() {
        for (x, exact) in [
            (0.1f32, 0.112_462_916_018_284_9),
            (0.49, 0.511_668_261_188_669_3),
            (0.51, 0.529_243_619_841_817),
            (1.0, 0.842_700_792_949_714_9),
            (2.5, 0.999_593_047_982_555),
        ] {
            assert!((f64::from(erf(x)) - exact).abs() < 2.5e-7, "{x}: {}", erf(x));
            assert_eq!(erf(-x), -erf(x));
        }
    }
}
