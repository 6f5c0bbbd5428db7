//! Log-mel features as Whisper computes them.

use crate::filters::{Filter, pass, slaney};
use crate::lanes::{LANES, Lanes};
use crate::logarithm::log10;
use crate::transform::Transform;
use crate::windows::{BLOCK, HOP, WINDOW, read};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::array::from_fn;
use std::borrow::Cow;
use std::f32::consts::TAU;

/// Samples a second.
pub const RATE: usize = 16_000;
/// Frequencies of a frame's spectrum.
const SPECTRUM: usize = WINDOW / 2 + 1;
/// Frames that begin up to half a window after the clip's end still overlap it.
const BEHIND: usize = 2;
/// Energies are floored at this value.
const FLOOR: f32 = 1e-10;
/// Blocks that a thread takes at a time: few, so that threads finish at about the same time.
const TOGETHER: usize = 4;
/// Values whose logarithms are taken together.
const LINE: usize = 16;

/// Frames with sound in this many samples; the last one may be partly silent.
pub fn frames(samples: usize) -> usize {
    samples.div_ceil(HOP)
}

/// Log-mel features of one clip, padded with silence.
#[derive(Debug, Clone, PartialEq)]
pub struct LogMel {
    bins: usize,
    heard: usize,
    frames: usize,
    computed: Vec<f32>, // (frames that overlap the clip, bins)
    silence: f32,
}

impl LogMel {
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// Frames that contain sound: those that an attention mask keeps.
    pub fn heard(&self) -> usize {
        self.heard
    }

    /// All frames, padding included.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The first `count` frames, one after the other: (count, bins). Frames past the end are left out. Copied only if
    /// there is padding among them.
    pub fn rows(&self, count: usize) -> Cow<'_, [f32]> {
        let values = count.min(self.frames) * self.bins;
        match self.computed.get(..values) {
            Some(rows) => Cow::Borrowed(rows),
            None => {
                let mut rows = Vec::with_capacity(values);
                rows.extend_from_slice(&self.computed);
                rows.resize(values, self.silence);
                Cow::Owned(rows)
            }
        }
    }
}

/// Computes [`LogMel`]s with this many bins.
pub struct MelExtractor {
    window: [f32; WINDOW],
    filters: Vec<Filter>,
    // In fp64: in fp32, rounding alone would change values far below the loudest tone of a frame by 5e-5, as it does
    // in the reference.
    transform: Transform,
}

impl MelExtractor {
    /// 80 bins for the first Whisper models, 128 for the later ones.
    pub fn new(bins: usize) -> MelExtractor {
        // The angle is in fp32, as in the reference: with a more exact window the features differ from the reference's
        // by nearly twice as much.
        let hann = |n: usize| 0.5 - 0.5 * (n as f32 * (TAU / WINDOW as f32)).cos();
        MelExtractor {
            window: from_fn(hann),
            filters: slaney(bins, SPECTRUM, RATE),
            transform: Transform::new(WINDOW),
        }
    }

    /// Takes 16 kHz mono, cut or padded with silence to `padded` samples, at least one window.
    ///
    /// Logarithms to the base 10, floored 8 below the clip's largest value, then `(x + 4) / 4`. Beyond both ends the
    /// sound is mirrored.
    pub fn log_mel(&self, samples: &[f32], padded: usize) -> LogMel {
        let padded = padded.max(WINDOW);
        let samples = &samples[..samples.len().min(padded)];
        let bins = self.filters.len();
        let all = padded / HOP;
        let computed = (frames(samples.len()) + BEHIND).min(all);
        let mut values = vec![0.0f32; computed * bins];
        let arch = Arch::new();
        let blocks = values.par_chunks_mut(BLOCK * bins).enumerate().with_max_len(TOGETHER);
        let each = blocks.map_init(Scratch::new, |scratch, (block, rows)| {
            arch.dispatch(Block {
                extractor: self,
                scratch,
                samples,
                padded,
                first: block * BLOCK,
                rows,
            })
        });
        let largest = each.reduce(|| f32::NEG_INFINITY, f32::max);
        let silent = log10(FLOOR);
        let largest = if computed < all { largest.max(silent) } else { largest };
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

    /// Features of several clips, on all cores even if the clips are short.
    pub fn log_mels(&self, clips: &[&[f32]], padded: usize) -> Vec<LogMel> {
        clips.par_iter().map(|samples| self.log_mel(samples, padded)).collect()
    }
}

/// `f32::max` without the handling of NaN.
#[inline(always)]
fn at_least(x: f32, least: f32) -> f32 {
    if x > least { x } else { least }
}

/// The buffers of one thread.
struct Scratch {
    seen: [Lanes; WINDOW],
    powers: [[f32; LANES]; SPECTRUM],
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            seen: [Lanes::default(); WINDOW],
            powers: [[0.0; LANES]; SPECTRUM],
        }
    }
}

/// Writes the logarithms of the energies of some frames and returns the largest.
struct Block<'a> {
    extractor: &'a MelExtractor,
    scratch: &'a mut Scratch,
    samples: &'a [f32],
    padded: usize,
    first: usize,
    rows: &'a mut [f32],
}

impl NullaryFnOnce for Block<'_> {
    type Output = f32;

    #[inline(always)]
    fn call(self) -> f32 {
        let MelExtractor {
            window,
            filters,
            transform,
        } = self.extractor;
        let Scratch { seen, powers } = self.scratch;
        let last = self.padded as isize - 1;
        let mirrored = |at: isize| {
            let at = at.abs();
            let at = if at > last { 2 * last - at } else { at };
            self.samples.get(at as usize).copied().unwrap_or(0.0)
        };
        let start = |frame: usize| (frame * HOP) as isize - (WINDOW / 2) as isize;
        for (group, rows) in self.rows.chunks_mut(LANES * filters.len()).enumerate() {
            read(self.samples, start(self.first + group * LANES), mirrored, window, seen);
            transform.powers(seen, powers);
            pass(filters, powers, rows);
        }
        let (lines, rest) = self.rows.as_chunks_mut::<LINE>();
        let mut largest = [f32::NEG_INFINITY; LINE];
        for values in lines {
            for (value, largest) in values.iter_mut().zip(&mut largest) {
                *value = log10(at_least(*value, FLOOR));
                *largest = at_least(*value, *largest);
            }
        }
        for value in &mut *rest {
            *value = log10(at_least(*value, FLOOR));
        }
        largest.iter().chain(&*rest).copied().fold(f32::NEG_INFINITY, f32::max)
    }
}
