//! Whether there is anything to hear.

use crate::RATE;
use plugin_api::{Clip, Code, Error, Result};

/// The samples of a clip that can be heard: one channel at the models' rate, and numbers throughout.
///
/// `which` is what errors call it, counted from 1.
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
    match samples.iter().position(|sample| !sample.is_finite()) {
        Some(place) => refuse(format!("is damaged: sample {place} is {}", samples[place])),
        None => Ok(samples),
    }
}

/// The error for a clip that becomes no token.
pub fn too_short(which: usize, samples: usize) -> Error {
    let seconds = samples as f64 / RATE as f64;
    let message = format!("clip {which} is too short to be heard: {seconds:.4} s");
    Error::new(Code::CLIP, message).help("it has to last longer than 0.02 s")
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
        assert_eq!(checked(&Clip::new(16_000, vec![0.5]), 1).unwrap(), [0.5]);
    }
}
