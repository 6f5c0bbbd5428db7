//! From one sample rate to another.
//!
//! A windowed sinc by FFT (`rubato`), linear in phase. The delay of the filter is cut off the front and
//! the tail is flushed, so that sample `i` of the output lies at time `i / to`, and `n` samples become
//! `ceil(n * to / from)`. The blocks are long (at least [`SHORTEST_BLOCK`] on the slower side), which keeps
//! frequencies up to about 0.97 of the lower Nyquist frequency; real-time code would choose shorter ones.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler, WindowFunction};

use super::error::{AudioFault, MAX_RATE, MIN_RATE};

const SHORTEST_BLOCK: u64 = 1024;

/// Mono samples at rate `from`, made into samples at rate `to`; the same rate returns them as they are.
pub fn resample(samples: Vec<f32>, from: u32, to: u32) -> Result<Vec<f32>, AudioFault> {
    for rate in [from, to] {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(AudioFault::Rate(rate));
        }
    }
    if from == to || samples.is_empty() {
        return Ok(samples);
    }
    let fail = |why: &dyn std::fmt::Display| AudioFault::Damaged(format!("resampling {from} Hz to {to} Hz: {why}"));

    let wanted = resampled(samples.len() as u64, from, to) as usize;
    let mut resampler = Fft::<f32>::new_custom(
        from as usize,
        to as usize,
        input_block(from, to),
        1,
        1,
        WindowFunction::BlackmanHarris2,
        FixedSync::Both,
    )
    .map_err(|error| fail(&error))?;

    let delay = resampler.output_delay();
    let (block_in, block_out) = (resampler.input_frames_next(), resampler.output_frames_next());
    let mut input = vec![0.0_f32; block_in];
    let mut output = vec![0.0_f32; block_out];
    let mut resampled = Vec::with_capacity(wanted + delay + block_out);
    let mut rest = samples.as_slice();
    while resampled.len() < wanted + delay {
        let (block, after) = rest.split_at(rest.len().min(block_in));
        input[..block.len()].copy_from_slice(block);
        input[block.len()..].fill(0.0);
        rest = after;
        let source = InterleavedSlice::new(&input, 1, block_in).map_err(|error| fail(&error))?;
        let mut target = InterleavedSlice::new_mut(&mut output, 1, block_out).map_err(|error| fail(&error))?;
        resampler
            .process_into_buffer(&source, &mut target, None)
            .map_err(|error| fail(&error))?;
        resampled.extend_from_slice(&output);
    }
    resampled.drain(..delay);
    resampled.truncate(wanted);
    Ok(resampled)
}

/// How many samples this many samples become.
pub(super) fn resampled(samples: u64, from: u32, to: u32) -> u64 {
    (u128::from(samples) * u128::from(to)).div_ceil(u128::from(from)) as u64
}

/// The input block: a multiple of the shortest that both rates divide.
///
/// The multiple is even, because the centre of the filter lies at half a block: with an odd block the
/// delay would not be a whole number of samples and the output would sit a fraction of a sample off.
fn input_block(from: u32, to: u32) -> usize {
    let (from, to) = (u64::from(from), u64::from(to));
    let shared = greatest_common_divisor(from, to);
    let slower = from.min(to) / shared;
    let multiple = SHORTEST_BLOCK.div_ceil(slower).next_multiple_of(2);
    (multiple * from / shared) as usize
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
