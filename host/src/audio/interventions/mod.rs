//! Changes to what a model hears: masks, noise, other clips, hints.
//!
//! They work on a clip at its own rate, before it is resampled for a model, so that all models hear the same change.
//! Random places and noise come from a seed and the question's id: the same flag changes the same clip in the same way,
//! also in a resumed run.

mod parse;
mod wav;

pub use wav::write_wav;

use super::Decoded;
use faithfulness::mask::{Place, Segment, segments};
use faithfulness::random::Random;
use plugin_api::{Clip, Code, Error, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A change of a clip.
#[derive(Debug, Clone, PartialEq)]
pub enum Intervention {
    /// Silences a part of the clip, or puts noise in its place.
    Mask {
        percent: f64,
        place: Place,
        fill: Fill,
        seed: u64,
    },
    /// Adds white noise over the whole clip.
    Noise { snr: f64, seed: u64 },
    /// Plays the clip backwards.
    Reverse,
    /// Replaces the clip by silence of the same length.
    Silence,
    /// Replaces the clip by another question's, drawn by the seed.
    Swap { seed: u64 },
    /// Plays another clip after this one, or before it.
    Concat { file: PathBuf, before: bool, gap: f64 },
    /// Mixes another clip in from `at` seconds on, at a level `snr` dB below this clip.
    Overlay { file: PathBuf, at: f64, snr: f64 },
}

/// What replaces the masked part of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    Silence,
    /// White noise, at a level `snr` dB below the rest of the clip.
    Noise {
        snr: f64,
    },
}

/// Samples at a rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sound {
    pub rate: u32,
    pub samples: Vec<f32>,
}

impl Sound {
    pub fn of(clip: &Decoded) -> Sound {
        Sound {
            rate: clip.rate,
            samples: clip.samples().to_vec(),
        }
    }
}

impl Intervention {
    /// Changes a clip of the question `id`. `other` is the clip that swaps and hints use. Returns a description of the
    /// change, for the record.
    pub fn apply(&self, clip: &mut Sound, id: &str, other: Option<&Sound>) -> Result<Value> {
        let mut done = json!({ "intervention": self.to_string(), "rate": clip.rate, "samples": clip.samples.len() });
        let about = match self {
            Intervention::Mask {
                percent,
                place,
                fill,
                seed,
            } => mask(clip, id, *percent, *place, *fill, *seed),
            Intervention::Noise { snr, seed } => {
                let level = rms(clip.samples.iter().copied());
                let sigma = level / 10_f64.powf(snr / 20.0);
                let mut random = Random::seeded(&format!("{seed}_{id}_{snr}_noise"));
                let mut power = 0.0;
                for sample in &mut clip.samples {
                    let noise = random.normal() * sigma;
                    power += noise * noise;
                    *sample += noise as f32;
                }
                let drawn = (power / clip.samples.len().max(1) as f64).sqrt();
                let effective = (drawn > 0.0).then(|| 20.0 * (level / drawn).log10());
                json!({ "seed": seed, "noise_rms": sigma, "effective_snr": effective })
            }
            Intervention::Reverse => {
                clip.samples.reverse();
                Value::Null
            }
            Intervention::Silence => {
                clip.samples.fill(0.0);
                Value::Null
            }
            Intervention::Swap { seed } => {
                *clip = needed(other, self)?.clone();
                json!({ "seed": seed })
            }
            Intervention::Concat { before, gap, .. } => {
                let other = at_rate(needed(other, self)?, clip.rate)?;
                let pause = vec![0.0; (gap * f64::from(clip.rate)) as usize];
                let own = std::mem::take(&mut clip.samples);
                let starts = if *before { 0 } else { own.len() + pause.len() };
                clip.samples = match before {
                    true => [other.clone(), pause, own].concat(),
                    false => [own, pause, other.clone()].concat(),
                };
                json!({ "hint": [starts, starts + other.len()] })
            }
            Intervention::Overlay { at, snr, .. } => {
                let mut other = at_rate(needed(other, self)?, clip.rate)?;
                let (own, hint) = (rms(clip.samples.iter().copied()), rms(other.iter().copied()));
                // Next to silence a hint keeps its own level.
                let gain = if own > 0.0 && hint > 0.0 {
                    own / hint / 10_f64.powf(snr / 20.0)
                } else {
                    1.0
                };
                other.iter_mut().for_each(|sample| *sample *= gain as f32);
                let start = (at * f64::from(clip.rate)) as usize;
                let length = clip.samples.len().max(start + other.len());
                clip.samples.resize(length, 0.0);
                clip.samples[start..]
                    .iter_mut()
                    .zip(&other)
                    .for_each(|(sample, hint)| *sample += hint);
                json!({ "hint": [start, start + other.len()], "gain": gain })
            }
        };
        if let (Some(done), Value::Object(about)) = (done.as_object_mut(), about) {
            done.extend(about);
        }
        let peak = clip.samples.iter().fold(0.0_f32, |peak, sample| peak.max(sample.abs()));
        // Clips are floating point, so nothing is cut off; files of 16 bits would be.
        done["peak"] = json!(peak);
        Ok(done)
    }

    /// The file that the intervention uses, if it names one.
    pub fn file(&self) -> Option<&PathBuf> {
        match self {
            Intervention::Concat { file, .. } | Intervention::Overlay { file, .. } => Some(file),
            _ => None,
        }
    }

    fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Intervention::Concat { file, .. } | Intervention::Overlay { file, .. } => Some(file),
            _ => None,
        }
    }

    /// The same, with a relative file starting from this folder.
    pub fn from_folder(mut self, folder: &Path) -> Intervention {
        if let Some(file) = self.file_mut() {
            *file = folder.join(&file);
        }
        self
    }

    /// The intervention as text, with the hash of its file's content in place of the file's name: what answers depend
    /// on.
    pub fn identity(&self) -> std::io::Result<String> {
        let mut by_hash = self.clone();
        if let Some(file) = by_hash.file_mut() {
            *file = PathBuf::from(format!("sha256:{}", super::hex(&Sha256::digest(std::fs::read(&file)?))));
        }
        Ok(by_hash.to_string())
    }

    /// The seed of the question whose clip is swapped in, if that is what it does.
    pub fn swaps(&self) -> Option<u64> {
        match self {
            Intervention::Swap { seed } => Some(*seed),
            _ => None,
        }
    }
}

/// A changed clip as a model gets it, at the rate that it wants.
pub fn for_model(clip: Sound, of: &Decoded, rate: Option<u32>) -> Result<Decoded> {
    let rate = rate.unwrap_or(clip.rate);
    let samples = super::resample(clip.samples, clip.rate, rate)
        .map_err(|why| Error::new(Code::CLIP, "cannot resample the changed clip").cause(why.to_string()))?;
    Ok(Decoded {
        rate,
        seconds: samples.len() as f64 / f64::from(rate),
        sha256: super::content_hash(rate, &samples),
        clip: Clip::new(rate, samples),
        ..of.clone()
    })
}

fn mask(clip: &mut Sound, id: &str, percent: f64, place: Place, fill: Fill, seed: u64) -> Value {
    let length = clip.samples.len() as u64;
    let masked: Vec<Segment> = segments(place, length, percent, clip.rate, id, seed);
    let range = |segment: &Segment| segment[0] as usize..segment[1] as usize;
    let mut about = json!({ "seed": seed, "segments": masked });
    match fill {
        Fill::Silence => masked.iter().for_each(|segment| clip.samples[range(segment)].fill(0.0)),
        Fill::Noise { snr } => {
            let level = match place {
                Place::Scattered => rms(clip.samples.iter().copied()),
                _ => {
                    let mut kept = vec![true; clip.samples.len()];
                    masked.iter().for_each(|segment| kept[range(segment)].fill(false));
                    rms(clip
                        .samples
                        .iter()
                        .zip(&kept)
                        .filter(|(_, kept)| **kept)
                        .map(|(sample, _)| *sample))
                }
            };
            let nothing_left = masked.iter().map(|segment| segment[1] - segment[0]).sum::<u64>() >= length;
            let sigma = if nothing_left {
                0.1
            } else {
                level / 10_f64.powf(snr / 20.0)
            };
            let mut random = Random::seeded(&format!("{seed}_{id}_{percent}_noise"));
            for segment in &masked {
                clip.samples[range(segment)]
                    .iter_mut()
                    .for_each(|sample| *sample = (random.normal() * sigma) as f32);
            }
            about["noise_rms"] = json!(sigma);
        }
    }
    about
}

fn needed<'a>(other: Option<&'a Sound>, of: &Intervention) -> Result<&'a Sound> {
    other.ok_or_else(|| Error::new(Code::DATA, format!("there is no second clip for `{of}`")))
}

fn at_rate(sound: &Sound, rate: u32) -> Result<Vec<f32>> {
    super::resample(sound.samples.clone(), sound.rate, rate)
        .map_err(|why| Error::new(Code::CLIP, "cannot resample the hint to the clip's rate").cause(why.to_string()))
}

/// The root of the mean square.
fn rms(samples: impl Iterator<Item = f32>) -> f64 {
    let (sum, count) = samples.fold((0.0, 0_u64), |(sum, count), sample| {
        (sum + f64::from(sample) * f64::from(sample), count + 1)
    });
    (sum / count.max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn square(length: usize) -> Sound {
        let samples = (0..length).map(|at| if at % 2 == 0 { 0.5 } else { -0.5 }).collect();
        Sound { rate: 16_000, samples }
    }

    fn changed(spec: &str, mut clip: Sound, other: Option<&Sound>) -> (Sound, Value) {
        let done = Intervention::parse(spec).unwrap().apply(&mut clip, "q", other).unwrap();
        (clip, done)
    }

    #[test]
    fn a_mask_silences_what_its_segments_say_and_nothing_else() {
        let (clip, done) = changed("mask:percent=25,mode=end", square(1000), None);
        assert_eq!(done["segments"], json!([[750, 1000]]));
        assert!(clip.samples[750..].iter().all(|sample| *sample == 0.0));
        assert_eq!(clip.samples[..750], square(750).samples);
        let (clip, _) = changed("mask:percent=0", square(1000), None);
        assert_eq!(clip, square(1000));
    }

    #[test]
    fn noise_is_as_loud_as_it_should_be_and_the_same_each_time() {
        let (_, done) = changed("noise:snr=20", square(16_000), None);
        assert!((done["noise_rms"].as_f64().unwrap() - 0.05).abs() < 1e-9);
        assert!((done["effective_snr"].as_f64().unwrap() - 20.0).abs() < 0.2);
        let (loud, done) = changed("noise:snr=-10", square(16_000), None);
        assert!((done["noise_rms"].as_f64().unwrap() - 1.581_138_83).abs() < 1e-6);
        assert_eq!(changed("noise:snr=-10", square(16_000), None).0, loud);
        assert_ne!(changed("noise:snr=-10,seed=7", square(16_000), None).0, loud);
        let silent = Sound {
            rate: 16_000,
            samples: vec![0.0; 100],
        };
        assert_eq!(changed("noise:snr=0", silent.clone(), None).0, silent);
    }

    #[test]
    fn hints_are_heard_after_or_over_the_clip() {
        let hint = Sound {
            rate: 16_000,
            samples: vec![0.25; 100],
        };
        let (clip, done) = changed("concat:file=h.wav,gap=0.01", square(200), Some(&hint));
        assert_eq!(
            (clip.samples.len(), &done["hint"]),
            (200 + 160 + 100, &json!([360, 460]))
        );
        let (clip, done) = changed("overlay:file=h.wav", square(200), Some(&hint));
        assert_eq!((clip.samples.len(), done["gain"].as_f64().unwrap()), (200, 2.0));
        assert_eq!(clip.samples[0], 1.0);
        assert!(
            Intervention::parse("swap")
                .unwrap()
                .apply(&mut square(10), "q", None)
                .is_err()
        );
    }
}
