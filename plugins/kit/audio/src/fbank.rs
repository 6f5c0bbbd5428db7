//! Log filter banks as Kaldi computes them, which BEATs was trained on.
//!
//! Frames are transformed in fp64: energies are floored at so low a value that fp32 rounding would show in the
//! features of a silent clip.

use crate::filters::{Filter, pass};
use crate::lanes::{LANES, Lanes};
use crate::logarithm::ln;
use crate::transform::Transform;
use crate::windows::{BLOCK, WINDOW, read};
use crate::{HOP, RATE};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::array::from_fn;
use std::f64::consts::TAU;

/// Frames are padded with zeros to this length for the transform.
const PADDED: usize = 512;
/// Frequencies of the spectrum; filters leave out the last one, at half the rate.
const SPECTRUM: usize = PADDED / 2 + 1;
/// The lowest frequency that a filter passes.
const LOWEST: f32 = 20.0;
const PRE_EMPHASIS: f64 = 0.97;
/// Kaldi scales samples as 16-bit integers.
const FULL_SCALE: f64 = 32_768.0;

/// Computes Kaldi's log filter banks with this many bins.
pub struct Fbank {
    window: [f64; WINDOW],
    filters: Vec<Filter>,
    transform: Transform,
}

impl Fbank {
    pub fn new(bins: usize) -> Fbank {
        // Povey's window: Hann's to the power of 0.85.
        let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / (WINDOW - 1) as f64).cos();
        Fbank {
            window: from_fn(|n| hann(n).powf(0.85)),
            filters: filters(bins),
            transform: Transform::new(PADDED),
        }
    }

    /// The number of whole frames in this many samples; samples at the end may be left over.
    pub fn frames(samples: usize) -> usize {
        (samples + HOP).saturating_sub(WINDOW) / HOP
    }

    /// Takes 16 kHz mono and returns natural logarithms of energies, (frames, bins).
    ///
    /// The mean of each frame is subtracted. There is no dither, so that the same clip gives the same numbers.
    pub fn log_energies(&self, samples: &[f32]) -> Vec<f32> {
        let bins = self.filters.len();
        let mut values = vec![0.0f32; Fbank::frames(samples.len()) * bins];
        let blocks = values.par_chunks_mut(BLOCK * bins).enumerate();
        let arch = Arch::new();
        blocks.for_each_init(Scratch::new, |scratch, (block, rows)| {
            arch.dispatch(Block {
                fbank: self,
                scratch,
                samples: &samples[block * BLOCK * HOP..],
                rows,
            });
        });
        values
    }
}

/// The buffers of one thread.
struct Scratch {
    seen: [Lanes; PADDED],
    powers: [[f32; LANES]; SPECTRUM],
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            seen: [Lanes::default(); PADDED],
            powers: [[0.0; LANES]; SPECTRUM],
        }
    }
}

/// The logarithms of the energies of the first frames, one frame for each row.
struct Block<'a> {
    fbank: &'a Fbank,
    scratch: &'a mut Scratch,
    samples: &'a [f32],
    rows: &'a mut [f32],
}

impl NullaryFnOnce for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Fbank {
            window,
            filters,
            transform,
        } = self.fbank;
        let Scratch { seen, powers } = self.scratch;
        let behind = |at: isize| self.samples.get(at as usize).copied().unwrap_or(0.0);
        for (group, rows) in self.rows.chunks_mut(LANES * filters.len()).enumerate() {
            let start = (group * LANES * HOP) as isize;
            read(self.samples, start, behind, &[1.0; WINDOW], seen);
            shape(window, seen);
            transform.powers(seen, powers);
            pass(filters, powers, rows);
        }
        for value in self.rows {
            *value = ln(value.max(f32::EPSILON));
        }
    }
}

/// Frames as the transform reads them: mean subtracted, high frequencies raised, and windowed.
#[inline(always)]
fn shape(window: &[f64; WINDOW], seen: &mut [Lanes; PADDED]) {
    let (frame, behind) = seen.split_at_mut(WINDOW);
    let mut sum = Lanes::default();
    for sample in frame.iter_mut() {
        *sample = *sample * FULL_SCALE;
        sum = sum + *sample;
    }
    let mean = sum * (1.0 / WINDOW as f64);
    let mut before = frame[0] - mean;
    for (place, weight) in frame.iter_mut().zip(window) {
        let sample = *place - mean;
        *place = (sample - before * PRE_EMPHASIS) * *weight;
        before = sample;
    }
    behind.fill(Lanes::default()); // scratch space of the transform
}

/// Triangles of height one between points that are equally spaced on the mel scale. Computed in fp32, as in the
/// training of the published weights.
fn filters(count: usize) -> Vec<Filter> {
    let mels = |hertz: f32| 1127.0 * (hertz / 700.0).ln_1p();
    let (low, high) = (mels(LOWEST), mels(RATE as f32 / 2.0));
    let step = (high - low) / (count + 1) as f32;
    let filter = |n: usize| {
        let edge = |n: usize| low + n as f32 * step;
        let (left, centre, right) = (edge(n), edge(n + 1), edge(n + 2));
        let weight = |bin: usize| {
            let mel = mels(bin as f32 * RATE as f32 / PADDED as f32);
            ((mel - left) / (centre - left))
                .min((right - mel) / (right - centre))
                .max(0.0)
        };
        Filter::of((0..SPECTRUM - 1).map(weight).collect())
    };
    (0..count).map(filter).collect()
}
