//! Logarithms of many numbers at once.
//!
//! libm's takes one number at a time, which was a third of the time of features. Here, log10 is off by at most 0.7
//! units in the last place, or 2.4 near one, where the logarithm is small.

use std::f64::consts::LN_10;

/// The bits of the square root of 1/2.
const ROOT: u32 = 0x3f35_04f3;
const FRACTION: u32 = 0x007f_ffff;
/// The logarithm of two in two parts. The first has so few digits that its product with any exponent is exact.
const TWO: [f32; 2] = [19_728.0 / 65_536.0, 4.605_039e-6];
/// log10(1 + f) / f from sqrt(1/2) to sqrt(2), by Remez' algorithm, to a relative error of 2.7e-8.
const SERIES: [f32; 9] = [
    0.434_294_46,
    -0.217_147_19,
    0.144_768_54,
    -0.108_582_63,
    0.086_671_43,
    -0.071_929_56,
    0.064_936_87,
    -0.062_394_414,
    0.037_880_726,
];

/// The logarithm to the base 10 of a normal positive number.
#[inline(always)]
pub(crate) fn log10(x: f32) -> f32 {
    // x is a power of two times 1 + f.
    let above = x.to_bits().wrapping_sub(ROOT);
    let exponent = (above.cast_signed() >> 23) as f32;
    let f = f32::from_bits((above & FRACTION) + ROOT) - 1.0;
    // Even and odd powers separately: that halves the chain of dependent products.
    let square = f * f;
    let (mut even, mut odd) = (SERIES[8], SERIES[7]);
    for place in [6, 4, 2, 0] {
        even = even * square + SERIES[place];
    }
    for place in [5, 3, 1] {
        odd = odd * square + SERIES[place];
    }
    let of_fraction = (even + odd * f) * f;
    exponent * TWO[0] + (exponent * TWO[1] + of_fraction)
}

/// The natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    (f64::from(log10(x)) * LN_10) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of all sizes, all numbers near one, and both ends of each power of two.
    fn numbers() -> impl Iterator<Item = f32> {
        let normal = f32::MIN_POSITIVE.to_bits()..=f32::MAX.to_bits();
        let near_one = 0.6f32.to_bits()..=1.6f32.to_bits();
        let ends = (1..255u32).flat_map(|exponent| [exponent << 23, (exponent << 23) + FRACTION]);
        normal
            .step_by(997)
            .chain(near_one.step_by(3))
            .chain(ends)
            .map(f32::from_bits)
    }

    #[track_caller]
    fn check(logarithm: fn(f32) -> f32, exact: fn(f64) -> f64, near_one: f64, beyond: f64) {
        for x in numbers() {
            let (got, expected) = (logarithm(x), exact(f64::from(x)));
            let unit = f64::from(got.abs().next_up() - got.abs());
            let units = (f64::from(got) - expected).abs() / unit;
            let bound = if expected.abs() < 1.0 { near_one } else { beyond };
            assert!(units <= bound, "{x:e}: {got:e} is {units} units off");
        }
    }

    #[test]
    fn logarithms_are_those_of_fp64_to_some_units() {
        check(log10, f64::log10, 2.4, 0.7);
        check(ln, f64::ln, 2.9, 2.0);
    }

    #[test]
    fn round_numbers_have_round_logarithms() {
        for (x, expected) in [
            (1e-10, -10.0),
            (1e-5, -5.0),
            (0.1, -1.0),
            (1.0, 0.0),
            (10.0, 1.0),
            (1e8, 8.0),
        ] {
            assert_eq!(log10(x), expected);
        }
    }
}
