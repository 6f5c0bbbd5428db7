//! The Fourier transform of several frames in parallel.
//!
//! A frame of real numbers is transformed as half as many complex numbers: even places are real parts, odd places
//! imaginary parts. The passes work in place and so change the order; the last step, which makes the spectrum of the
//! real numbers, accounts for that.

use crate::lanes::{Complex, LANES, Lanes, Turn};

/// One pass over all numbers: parts of this many numbers become `radix` parts each.
struct Pass {
    radix: usize,
    length: usize,
    /// The factors for each place in a part, `radix - 1` each.
    turns: Vec<Turn>,
}

/// Where one frequency and its mirror image are after the passes, and the factor of the odd places.
struct Pair {
    places: [usize; 2],
    turn: Turn,
}

/// Transforms of frames of one size.
pub(crate) struct Transform {
    passes: Vec<Pass>,
    pairs: Vec<Pair>,
}

impl Transform {
    /// For frames of this many samples: twice a product of 4, 5 and 8.
    pub fn new(size: usize) -> Transform {
        let half = size / 2;
        let mut passes = Vec::new();
        let mut length = half;
        while length > 1 {
            let radix = [5, 8, 4].into_iter().find(|&radix| length.is_multiple_of(radix));
            let radix = radix.expect("an unsupported size");
            let step = length / radix;
            let turns = (0..step).flat_map(|place| (1..radix).map(move |k| Turn::back(place * k, length)));
            let turns = turns.collect();
            passes.push(Pass { radix, length, turns });
            length = step;
        }
        let place = |frequency: usize| {
            let mut rest = frequency % half;
            let mut place = 0;
            for pass in &passes {
                place += rest % pass.radix * (pass.length / pass.radix);
                rest /= pass.radix;
            }
            place
        };
        let pair = |frequency: usize| Pair {
            places: [place(frequency), place(half - frequency)],
            turn: Turn::back(frequency, size),
        };
        let pairs = (0..=half / 2).map(pair).collect();
        Transform { passes, pairs }
    }

    /// Overwrites the samples in `seen`, and writes the power of each frequency from 0 to half the rate to `powers`.
    #[inline(always)]
    pub fn powers(&self, seen: &mut [Lanes], powers: &mut [[f32; LANES]]) {
        let (seen, _) = seen.as_chunks_mut::<2>();
        for pass in &self.passes {
            match pass.radix {
                4 => pass.run::<4, Four>(seen),
                5 => pass.run::<5, Five>(seen),
                _ => pass.run::<8, Eight>(seen),
            }
        }
        let last = powers.len() - 1;
        for (frequency, pair) in self.pairs.iter().enumerate() {
            let this = Complex::of(seen[pair.places[0]]);
            let mirrored = Complex::of(seen[pair.places[1]]).conjugate();
            let even = (this + mirrored) * 0.5;
            let odd = (this - mirrored).quarter_back() * 0.5 * pair.turn;
            powers[frequency] = (even + odd).power().rounded();
            powers[last - frequency] = (even - odd).power().rounded();
        }
    }
}

impl Pass {
    #[inline(always)]
    fn run<const R: usize, B: Butterfly<R>>(&self, all: &mut [[Lanes; 2]]) {
        let step = self.length / R;
        for part in all.chunks_exact_mut(self.length) {
            for place in 0..step {
                let mut numbers = [Complex::default(); R];
                for (n, number) in numbers.iter_mut().enumerate() {
                    *number = Complex::of(part[place + n * step]);
                }
                let mut numbers = B::of(numbers);
                if step > 1 {
                    let turns = &self.turns[place * (R - 1)..][..R - 1];
                    for (number, turn) in numbers[1..].iter_mut().zip(turns) {
                        *number = *number * *turn;
                    }
                }
                for (n, number) in numbers.iter().enumerate() {
                    part[place + n * step] = [number.re, number.im];
                }
            }
        }
    }
}

/// The transform of a few numbers.
trait Butterfly<const R: usize> {
    fn of(x: [Complex; R]) -> [Complex; R];
}

struct Four;

impl Butterfly<4> for Four {
    #[inline(always)]
    fn of(x: [Complex; 4]) -> [Complex; 4] {
        let (even, odd) = (x[0] + x[2], x[1] + x[3]);
        let (across, other) = (x[0] - x[2], (x[1] - x[3]).quarter_back());
        [even + odd, across + other, even - odd, across - other]
    }
}

struct Eight;

impl Butterfly<8> for Eight {
    #[inline(always)]
    fn of(x: [Complex; 8]) -> [Complex; 8] {
        let even = Four::of([x[0], x[2], x[4], x[6]]);
        let odd = Four::of([x[1], x[3], x[5], x[7]]);
        let (one, three) = (odd[1], odd[3]);
        let odd = [
            odd[0],
            (one + one.quarter_back()) * std::f64::consts::FRAC_1_SQRT_2,
            odd[2].quarter_back(),
            (three.quarter_back() - three) * std::f64::consts::FRAC_1_SQRT_2,
        ];
        [
            even[0] + odd[0],
            even[1] + odd[1],
            even[2] + odd[2],
            even[3] + odd[3],
            even[0] - odd[0],
            even[1] - odd[1],
            even[2] - odd[2],
            even[3] - odd[3],
        ]
    }
}

struct Five;

impl Butterfly<5> for Five {
    #[inline(always)]
    fn of(x: [Complex; 5]) -> [Complex; 5] {
        // Cosines and sines of 1/5 and 2/5 of a turn.
        const COS: [f64; 2] = [0.309_016_994_374_947_45, -0.809_016_994_374_947_5];
        const SIN: [f64; 2] = [0.951_056_516_295_153_5, 0.587_785_252_292_473_1];
        let (outer, inner) = (x[1] + x[4], x[2] + x[3]);
        let (across, other) = ((x[1] - x[4]).quarter_back(), (x[2] - x[3]).quarter_back());
        let one = (x[0] + outer * COS[0] + inner * COS[1], across * SIN[0] + other * SIN[1]);
        let two = (x[0] + outer * COS[1] + inner * COS[0], across * SIN[1] - other * SIN[0]);
        [
            x[0] + outer + inner,
            one.0 + one.1,
            two.0 + two.1,
            two.0 - two.1,
            one.0 - one.1,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::array::from_fn;

    /// By the definition.
    fn slowly(frame: &[f64], frequency: usize) -> f64 {
        let angle = |n: usize| std::f64::consts::TAU * (n * frequency % frame.len()) as f64 / frame.len() as f64;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, sample) in frame.iter().enumerate() {
            re += sample * angle(n).cos();
            im += sample * angle(n).sin();
        }
        re * re + im * im
    }

    /// A tone with noise 120 dB below it; each number gives another one.
    fn frame(size: usize, number: usize) -> Vec<f64> {
        let mut state = number as u64 + 1;
        let mut noise = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..size)
            .map(|n| (n as f64 * (0.1 + number as f64)).sin() + 1e-6 * noise())
            .collect()
    }

    fn powers(frames: [&[f64]; LANES]) -> Vec<[f32; LANES]> {
        let size = frames[0].len();
        let mut seen: Vec<Lanes> = (0..size).map(|n| Lanes(frames.map(|frame| frame[n]))).collect();
        let mut powers = vec![[0.0; LANES]; size / 2 + 1];
        Transform::new(size).powers(&mut seen, &mut powers);
        powers
    }

    #[test]
    fn powers_are_those_of_the_definition() {
        for size in [8, 10, 16, 40, 80, 400, 512, 640] {
            let frames: [Vec<f64>; LANES] = from_fn(|lane| frame(size, lane));
            let got = powers(from_fn(|lane| &frames[lane][..]));
            for (frequency, got) in got.iter().enumerate() {
                for (frame, &got) in frames.iter().zip(got) {
                    // Up to the rounding of the power and the sums in fp32: some units in the last place of the tone's
                    // power.
                    let (expected, loudest) = (slowly(frame, frequency), (size * size) as f64 / 4.0);
                    let bound = expected * 6.1e-8 + (expected * loudest).sqrt() * 1e-14 + loudest * 1e-28;
                    assert!(
                        (f64::from(got) - expected).abs() <= bound,
                        "{size}, {frequency}: {got:e}, {expected:e}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_frame_has_the_same_powers_wherever_and_beside_whatever_it_is() {
        let (one, loud, silent) = (frame(400, 3), frame(400, 9), vec![0.0; 400]);
        let loud: Vec<f64> = loud.iter().map(|sample| sample * 1e30).collect();
        let alone = powers([&one; LANES]);
        for lane in 0..LANES {
            let company = from_fn(|n| match n {
                n if n == lane => &one[..],
                n if n % 2 == 0 => &loud[..],
                _ => &silent[..],
            });
            for (beside, alone) in powers(company).iter().zip(&alone) {
                assert_eq!(beside[lane].to_bits(), alone[0].to_bits());
            }
        }
    }
}
