//! Log filter banks as Kaldi computes them, which BEATs was trained on.
//!
//! Computed in fp64: the floor below which energies are cut is so low that the rounding of fp32 would be heard in the
//! features of a silent clip.

use crate::filters::Filter;
use crate::{HOP, RATE};
use rayon::prelude::*;
use realfft::{RealFftPlanner, RealToComplex};
use std::f64::consts::TAU;
use std::sync::Arc;

/// Samples of a frame: 25 ms.
const WINDOW: usize = 400;
/// What a frame is filled up to with zeros, for the transform.
const PADDED: usize = 512;
/// Frequencies of its spectrum; the one at half the rate is left out.
const SPECTRUM: usize = PADDED / 2;
/// The lowest frequency that a filter passes.
const LOWEST: f32 = 20.0;
const PRE_EMPHASIS: f64 = 0.97;
/// Kaldi counts in 16-bit samples.
const FULL_SCALE: f64 = 32_768.0;
/// Frames worked on by one thread at a time.
const BLOCK: usize = 64;

/// Computes Kaldi's log filter banks with so many bins.
pub struct Fbank {
    window: Vec<f64>,
    filters: Vec<Filter>,
    transform: Arc<dyn RealToComplex<f64>>,
}

impl Fbank {
    pub fn new(bins: usize) -> Fbank {
        // Povey's window: Hann's to the power of 0.85, so that it ends in zeros less softly.
        let hann = |n: usize| 0.5 - 0.5 * (TAU * n as f64 / (WINDOW - 1) as f64).cos();
        Fbank {
            window: (0..WINDOW).map(|n| hann(n).powf(0.85)).collect(),
            filters: filters(bins),
            transform: RealFftPlanner::new().plan_fft_forward(PADDED),
        }
    }

    /// Frames of so many samples: whole ones only, so that the end of a clip may be left out.
    pub fn frames(samples: usize) -> usize {
        (samples + HOP).saturating_sub(WINDOW) / HOP
    }

    /// 16 kHz mono in, natural logarithms of energies out: (frames, bins).
    ///
    /// Each frame has its own mean taken away. No dither, so that the same clip gives the same numbers.
    pub fn log_energies(&self, samples: &[f32]) -> Vec<f32> {
        let bins = self.filters.len();
        let mut values = vec![0.0f32; Fbank::frames(samples.len()) * bins];
        values
            .par_chunks_mut(BLOCK * bins)
            .enumerate()
            .for_each(|(block, rows)| {
                let mut seen = self.transform.make_input_vec();
                let mut spectrum = self.transform.make_output_vec();
                let mut inner = self.transform.make_scratch_vec();
                for (n, row) in rows.chunks_mut(bins).enumerate() {
                    let start = (block * BLOCK + n) * HOP;
                    self.shape(&samples[start..start + WINDOW], &mut seen);
                    let done = self
                        .transform
                        .process_with_scratch(&mut seen, &mut spectrum, &mut inner);
                    debug_assert!(
                        done.is_ok(),
                        "the buffers have the lengths that the transform asked for"
                    );
                    for (value, filter) in row.iter_mut().zip(&self.filters) {
                        let passed = &spectrum[filter.first..];
                        let weighed = passed.iter().zip(&filter.weights);
                        let energy: f64 = weighed
                            .map(|(power, &weight)| power.norm_sqr() * f64::from(weight))
                            .sum();
                        *value = energy.max(f64::from(f32::EPSILON)).ln() as f32;
                    }
                }
            });
        values
    }

    /// A frame as the transform sees it: without its mean, high frequencies raised, faded at both ends.
    fn shape(&self, frame: &[f32], seen: &mut [f64]) {
        let mean = frame.iter().map(|&sample| f64::from(sample) * FULL_SCALE).sum::<f64>() / WINDOW as f64;
        let mut before = f64::from(frame[0]) * FULL_SCALE - mean;
        seen.fill(0.0); // the transform leaves its work here
        for ((place, &sample), weight) in seen.iter_mut().zip(frame).zip(&self.window) {
            let sample = f64::from(sample) * FULL_SCALE - mean;
            *place = (sample - PRE_EMPHASIS * before) * weight;
            before = sample;
        }
    }
}

/// Triangles of height one between points that lie evenly on the mel scale. In fp32, as the weights were trained with.
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
        Filter::of((0..SPECTRUM).map(weight).collect())
    };
    (0..count).map(filter).collect()
}
