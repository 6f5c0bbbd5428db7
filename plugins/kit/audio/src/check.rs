//! Checks clips before a model gets them.

use crate::RATE;
use plugin_api::{Clip, Code, Error, Result};
use std::ops::RangeInclusive;

/// Louder samples are damage, whatever full scale a recording was made for: their energies, sums of squares, overflow
/// fp32.
const LOUDEST: f32 = 1e11;

/// The samples of a clip, if it has one channel at [`RATE`] and its samples are finite.
///
/// `which` is the clip's number in errors, counted from 1.
pub fn checked(clip: &Clip, which: usize) -> Result<&[f32]> {
    let refuse = |what: String| Err(Error::new(Code::CLIP, format!("clip {which} {what}")));
    let samples = clip.samples();
    if clip.rate as usize != RATE || clip.channels != 1 {
        let (rate, channels) = (clip.rate, clip.channels);
        return refuse(format!(
            "has {channels} channels at {rate} Hz, expected one at {RATE} Hz"
        ));
    }
    if samples.is_empty() {
        return refuse("is empty".to_owned());
    }
    let damaged = |sample: &f32| sample.is_nan() || sample.abs() > LOUDEST;
    // Without an early exit inside a block, so that the loop is vectorised.
    let is_bad = |block: &[f32]| block.iter().fold(false, |bad, sample| bad | damaged(sample));
    if !samples.chunks(4096).any(is_bad) {
        return Ok(samples);
    }
    match samples.iter().position(damaged) {
        Some(place) => refuse(format!("is damaged: sample {place} is {:e}", samples[place])),
        None => Ok(samples),
    }
}

/// The samples that a model gets of some clips.
#[derive(Debug, Clone, PartialEq)]
pub struct Sounds<'a> {
    pub each: Vec<&'a [f32]>,
    /// Of all clips together.
    pub seconds: f64,
    /// Flags for the reply.
    pub flags: Vec<String>,
}

/// The flag of a reply whose model got only the beginning of a clip.
const CUT: &str = "cut-clip";

/// The samples of [`checked`] clips for a model that takes `range` samples of each. A longer clip is cut, as in the
/// reference; a shorter one is refused, since nothing of it would reach the model.
pub fn sounds<'a>(clips: &[&'a Clip], range: RangeInclusive<usize>) -> Result<Sounds<'a>> {
    let (least, most) = range.into_inner();
    let (mut each, mut flags) = (Vec::with_capacity(clips.len()), Vec::new());
    for (number, clip) in clips.iter().enumerate() {
        let samples = checked(clip, number + 1)?;
        if samples.len() < least {
            let (got, needed) = (samples.len(), least);
            let message = format!(
                "clip {} is too short for this model: {got} samples, expected {needed}",
                number + 1
            );
            return Err(Error::new(Code::CLIP, message));
        }
        if samples.len() > most {
            flags = vec![CUT.to_owned()];
        }
        each.push(&samples[..samples.len().min(most)]);
    }
    let seconds = each.iter().map(|samples| samples.len()).sum::<usize>() as f64 / RATE as f64;
    Ok(Sounds { each, seconds, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(clip: Clip, message: &str) {
        let error = checked(&clip, 2).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::CLIP, message));
    }

    #[test]
    fn what_cannot_be_heard_is_refused() {
        refused(Clip::new(16_000, vec![]), "clip 2 is empty");
        refused(
            Clip::new(16_000, vec![0.0, f32::NAN]),
            "clip 2 is damaged: sample 1 is NaN",
        );
        refused(
            Clip::new(16_000, vec![f32::INFINITY]),
            "clip 2 is damaged: sample 0 is inf",
        );
        refused(
            Clip::new(44_100, vec![0.0]),
            "clip 2 has 1 channels at 44100 Hz, expected one at 16000 Hz",
        );
        refused(
            Clip::new(16_000, vec![0.5, -1e30]),
            "clip 2 is damaged: sample 1 is -1e30",
        );
        assert_eq!(checked(&Clip::new(16_000, vec![0.5]), 1).unwrap(), [0.5]);
        // The full scale of 32-bit integers.
        assert!(checked(&Clip::new(16_000, vec![2_147_483_648.0]), 1).is_ok());
    }

    #[test]
    fn a_model_hears_so_much_and_no_more() {
        let clip = |count| Clip::new(16_000, vec![0.5; count]);
        let (short, long) = (clip(800), clip(2400));
        let heard = sounds(&[&short, &long], 800..=1600).unwrap();
        assert_eq!(
            heard.each.iter().map(|samples| samples.len()).collect::<Vec<_>>(),
            [800, 1600]
        );
        assert_eq!((heard.seconds, heard.flags), (0.15, vec!["cut-clip".to_owned()]));
        assert!(sounds(&[&short], 800..=800).unwrap().flags.is_empty());
        let error = sounds(&[&long, &short], 801..=1600).unwrap_err();
        assert_eq!(
            error.message,
            "clip 2 is too short for this model: 800 samples, expected 801"
        );
    }
}
