//! Vectorised loops, compiled for several processors.

use pulp::Arch;
use rayon::prelude::*;

/// Runs a loop with the instructions that this processor has. The closure and all functions that it calls must be
/// `#[inline(always)]`: separate functions are compiled for any processor.
#[inline(always)]
pub(crate) fn vectorised<T>(work: impl FnOnce() -> T) -> T {
    Arch::new().dispatch(work)
}

/// About how many values a task processes.
const TASK: usize = 1 << 14;

/// Rows of one task.
pub(crate) fn rows_of_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Passes each row of `y` with its number to `work`, in parallel.
pub(crate) fn each_row(y: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    let rows = rows_of_task(width);
    y.par_chunks_mut(rows * width).enumerate().for_each(|(number, part)| {
        vectorised(
            #[inline(always)]
            || {
                for (row, y) in part.chunks_exact_mut(width).enumerate() {
                    work(number * rows + row, y);
                }
            },
        );
    });
}

/// `e^x`, within two units in the last place; below the smallest normal number it is zero.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 2^n * 2^f with |f| <= 1/2: n goes into the exponent's bits, 2^f is a polynomial of ln 2 * f.
    let x = x.clamp(-87.3, 88.7);
    // Adding so large a number rounds to an integer in the last bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = n.mul_add(-0.693_145_75, x);
    let r = n.mul_add(-1.428_606_8e-6, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_2e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * power
}

/// The sum of `of` over the values at each place of equally long rows, in an order that does not depend on the
/// processor's registers.
#[inline(always)]
pub(crate) fn sum<const N: usize>(rows: [&[f32]; N], of: impl Fn([f32; N]) -> f32) -> f32 {
    let mut sums = [0f32; 16];
    let parts = rows.map(
        #[inline(always)]
        |row| row.as_chunks::<16>(),
    );
    for place in 0..parts[0].0.len() {
        let sixteens = parts.map(
            #[inline(always)]
            |(sixteens, _)| &sixteens[place],
        );
        for n in 0..16 {
            sums[n] += of(sixteens.map(
                #[inline(always)]
                |values| values[n],
            ));
        }
    }
    for (n, sum) in sums.iter_mut().enumerate().take(parts[0].1.len()) {
        *sum += of(parts.map(
            #[inline(always)]
            |(_, rest)| rest[n],
        ));
    }
    sums.iter().sum()
}

/// The largest of a row's values; negative infinity for an empty row.
#[inline(always)]
pub(crate) fn largest(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let (sixteens, rest) = values.as_chunks::<16>();
    let mut most = [f32::NEG_INFINITY; 16];
    for values in sixteens {
        for n in 0..16 {
            most[n] = larger(most[n], values[n]);
        }
    }
    most.into_iter()
        .chain(rest.iter().copied())
        .fold(f32::NEG_INFINITY, larger)
}

/// `y += x`.
pub(crate) fn add(y: &mut [f32], x: &[f32]) {
    debug_assert_eq!(y.len(), x.len());
    y.par_chunks_mut(TASK).zip(x.par_chunks(TASK)).for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
        );
    });
}

/// The dot product of two rows of equal length.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for n in 0..16 {
            sums[n] = a[n].mul_add(b[n], sums[n]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_two_units() {
        for n in -8600..8800 {
            let x = n as f32 / 100.0 + 0.003;
            let (got, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got / exact - 1.0).abs() < 2.5e-7, "e^{x}: {got}, exactly {exact}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 2e-38);
    }
}
