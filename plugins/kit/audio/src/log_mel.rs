//! Log-mel features as Whisper computes them, and as the models built on its encoder want them.

use crate::filters::{Filter, slaney};
use rayon::prelude::*;
use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};
use std::f32::consts::TAU;
use std::sync::Arc;

/// Samples a second.
pub const RATE: usize = 16_000;
/// Samples from one frame to the next.
pub const HOP: usize = 160;
/// Samples that a frame looks at, the middle one being its own.
const WINDOW: usize = 400;
/// Frequencies of its spectrum.
const SPECTRUM: usize = WINDOW / 2 + 1;
/// The last frames that see a clip lie behind its end by less than half a window.
const BEHIND: usize = 2;
/// Energies below this count as this.
const FLOOR: f32 = 1e-10;
/// Frames worked on by one thread at a time.
const BLOCK: usize = 64;

/// Frames of so many samples that hold sound, the last of them perhaps in part.
pub fn frames(samples: usize) -> usize {
    samples.div_ceil(HOP)
}

/// Log-mel features of one clip, padded with silence.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    bins: usize,
    heard: usize,
    frames: usize,
    computed: Vec<f32>, // (frames that see the clip, bins)
    silence: f32,
}

impl LogMel {
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// Frames that hold sound; what masks keep.
    pub fn heard(&self) -> usize {
        self.heard
    }

    /// All frames, padding included.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The first `count` frames, one behind the other: (count, bins). Frames behind the last are left out.
    pub fn rows(&self, count: usize) -> Vec<f32> {
        let values = count.min(self.frames) * self.bins;
        let mut rows = self.computed[..values.min(self.computed.len())].to_vec();
        rows.resize(values, self.silence);
        rows
    }
}

/// Computes [`LogMel`]s with so many bins.
pub struct MelExtractor {
    window: Vec<f32>,
    filters: Vec<Filter>,
    // In fp64, or far below the loudest tone of a frame rounding alone would be off by 5e-5, and the reference is by as much.
    transform: Arc<dyn RealToComplex<f64>>,
}

impl MelExtractor {
    /// 80 bins in the first Whisper models, 128 in the later ones.
    pub fn new(bins: usize) -> MelExtractor {
        // In fp32 from the angle on, as the reference's: with a more exact window, features are nearly twice as far from its own.
        let hann = |n: usize| 0.5 - 0.5 * (n as f32 * (TAU / WINDOW as f32)).cos();
        MelExtractor {
            window: (0..WINDOW).map(hann).collect(),
            filters: slaney(bins, SPECTRUM, RATE),
            transform: RealFftPlanner::new().plan_fft_forward(WINDOW),
        }
    }

    /// 16 kHz mono in, cut to `padded` samples or filled up to them with silence; at least a frame's window of it.
    ///
    /// Logarithms to the base 10, floored 8 below the clip's largest value, then `(x + 4) / 4`. What a frame sees
    /// before the beginning and behind the padded end is the sound mirrored there.
    pub fn log_mel(&self, samples: &[f32], padded: usize) -> LogMel {
        let padded = padded.max(WINDOW);
        let samples = &samples[..samples.len().min(padded)];
        let bins = self.filters.len();
        let all = padded / HOP;
        let computed = (frames(samples.len()) + BEHIND).min(all);
        let mut values = vec![0.0f32; computed * bins];
        values.par_chunks_mut(BLOCK * bins).enumerate().for_each_init(
            || Scratch::new(self),
            |scratch, (block, rows)| {
                for (n, row) in rows.chunks_mut(bins).enumerate() {
                    scratch.frame(self, samples, padded, block * BLOCK + n, row);
                }
            },
        );
        let silent = FLOOR.log10();
        let padding = if computed < all { silent } else { f32::NEG_INFINITY };
        let largest = values.iter().copied().fold(padding, f32::max);
        let settle = |value: f32| (value.max(largest - 8.0) + 4.0) / 4.0;
        values.par_chunks_mut(1 << 14).for_each(|values| {
            for value in values {
                *value = settle(*value);
            }
        });
        LogMel {
            bins,
            heard: frames(samples.len()).min(all),
            frames: all,
            computed: values,
            silence: settle(silent),
        }
    }
}

struct Scratch {
    seen: Vec<f64>,
    spectrum: Vec<Complex<f64>>,
    power: Vec<f32>,
    inner: Vec<Complex<f64>>,
}

impl Scratch {
    fn new(extractor: &MelExtractor) -> Scratch {
        Scratch {
            seen: extractor.transform.make_input_vec(),
            spectrum: extractor.transform.make_output_vec(),
            power: vec![0.0; SPECTRUM],
            inner: extractor.transform.make_scratch_vec(),
        }
    }

    /// The logarithms of one frame's energies.
    fn frame(&mut self, extractor: &MelExtractor, samples: &[f32], padded: usize, frame: usize, row: &mut [f32]) {
        let start = (frame * HOP) as isize - (WINDOW / 2) as isize;
        if let Ok(start) = usize::try_from(start)
            && start + WINDOW <= samples.len()
        {
            let seen = &samples[start..start + WINDOW];
            for ((place, &sample), &weight) in self.seen.iter_mut().zip(seen).zip(&extractor.window) {
                *place = f64::from(sample * weight);
            }
        } else {
            let last = padded as isize - 1;
            for (n, (place, &weight)) in self.seen.iter_mut().zip(&extractor.window).enumerate() {
                let at = (start + n as isize).abs();
                let mirrored = if at > last { 2 * last - at } else { at };
                *place = samples
                    .get(mirrored as usize)
                    .map_or(0.0, |sample| f64::from(sample * weight));
            }
        }
        self.transform(extractor);
        for (power, value) in self.power.iter_mut().zip(&self.spectrum) {
            *power = value.norm_sqr() as f32;
        }
        for (value, filter) in row.iter_mut().zip(&extractor.filters) {
            let passed = &self.power[filter.first..];
            let energy: f32 = passed
                .iter()
                .zip(&filter.weights)
                .map(|(power, weight)| power * weight)
                .sum();
            *value = energy.max(FLOOR).log10();
        }
    }

    fn transform(&mut self, extractor: &MelExtractor) {
        let Scratch {
            seen, spectrum, inner, ..
        } = self;
        let done = extractor.transform.process_with_scratch(seen, spectrum, inner);
        debug_assert!(
            done.is_ok(),
            "the buffers have the lengths that the transform asked for"
        );
    }
}
