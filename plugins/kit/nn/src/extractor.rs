//! The settings of the reference's feature extractor, from an audio model's checkpoint.
//!
//! The decision a newcomer would question: these settings choose nothing here. A model needs features of one kind,
//! which the crate `audio` computes; if a file asks for others, the reference fails at the first clip. So the file is
//! compared with the model, and refused if they differ.

use crate::encoder::EncoderConfig;
use crate::{Error, Result, read_json};
use serde::Deserialize;
use std::path::Path;

/// Newer versions of the reference write the settings into the processor's; these count if both exist. Otherwise they
/// have a file of their own.
const NESTED: &str = "processor_config.json";
const ALONE: &str = "preprocessor_config.json";

/// The reason in errors.
const WHISPER: &str = "Whisper's features have it";
/// The longest clip that a file may ask for, in seconds; more is damage.
const DAY: f64 = 86_400.0;

/// Settings of the extractor; if one is missing, the model's needs apply.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Extractor {
    #[serde(skip)]
    file: &'static str,
    feature_size: Option<f64>,
    sampling_rate: Option<f64>,
    hop_length: Option<f64>,
    n_fft: Option<f64>,
    /// Clips are padded, or cut, to this many seconds.
    chunk_length: Option<f64>,
}

#[derive(Deserialize)]
struct Processor {
    feature_extractor: Option<Extractor>,
}

impl Extractor {
    /// The extractor of a checkpoint's folder, if its features are those that the encoder needs.
    pub fn from_folder(folder: &Path, encoder: &EncoderConfig) -> Result<Extractor> {
        let (nested, alone) = (folder.join(NESTED), folder.join(ALONE));
        let mut found = None;
        if nested.is_file() {
            let processor: Processor = read_json(&nested)?;
            found = processor.feature_extractor.map(|extractor| (NESTED, extractor));
        }
        if found.is_none() && alone.is_file() {
            found = Some((ALONE, read_json(&alone)?));
        }
        let (file, extractor) = found.unwrap_or_default();
        let extractor = Extractor { file, ..extractor };
        let bins = encoder.bins;
        extractor.same(
            "feature_size",
            extractor.feature_size,
            bins,
            "`num_mel_bins` in config.json",
        )?;
        extractor.same("sampling_rate", extractor.sampling_rate, audio::RATE, WHISPER)?;
        extractor.same("hop_length", extractor.hop_length, audio::HOP, WHISPER)?;
        extractor.same("n_fft", extractor.n_fft, 400, WHISPER)?;
        Ok(extractor)
    }

    /// Refuses windows of another length than the encoder has positions for.
    pub fn fills(&self, encoder: &EncoderConfig) -> Result<()> {
        let expected = encoder.samples() as f64 / audio::RATE as f64;
        let like = format!("the {} `max_source_positions` in config.json", encoder.positions);
        match self.chunk_length {
            Some(got) if got != expected => Err(self.differs("chunk_length", got, expected, &like)),
            _ => Ok(()),
        }
    }

    /// The most samples of a clip; `usual` if the file does not say.
    pub fn longest(&self, usual: usize) -> Result<usize> {
        match self.chunk_length {
            Some(seconds) if seconds > 0.0 && seconds <= DAY => Ok((seconds * audio::RATE as f64) as usize),
            Some(got) => Err(Error::Config {
                what: format!("`chunk_length` in {}", self.file),
                got: got.to_string(),
                expected: format!("up to {DAY} seconds"),
            }),
            None => Ok(usual),
        }
    }

    fn same(&self, what: &str, got: Option<f64>, expected: usize, like: &str) -> Result<()> {
        match got {
            Some(got) if got != expected as f64 => Err(self.differs(what, got, expected as f64, like)),
            _ => Ok(()),
        }
    }

    fn differs(&self, what: &str, got: f64, expected: f64, like: &str) -> Error {
        Error::Config {
            what: format!("`{what}` in {}", self.file),
            got: got.to_string(),
            expected: format!("{expected}, as {like}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> EncoderConfig {
        EncoderConfig {
            bins: 128,
            width: 16,
            layers: 1,
            heads: 2,
            inner: 16,
            positions: 200,
            stored_positions: true,
        }
    }

    /// Reads both files and compares the windows.
    fn read(nested: &str, alone: &str) -> std::result::Result<Extractor, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [(NESTED, nested), (ALONE, alone)] {
            if !text.is_empty() {
                std::fs::write(folder.path().join(name), text).unwrap();
            }
        }
        let extractor = Extractor::from_folder(folder.path(), &encoder()).map_err(|e| e.to_string())?;
        extractor.fills(&encoder()).map_err(|e| e.to_string())?;
        Ok(extractor)
    }

    #[track_caller]
    fn refused(nested: &str, alone: &str, message: &str) {
        assert_eq!(read(nested, alone).unwrap_err(), message);
    }

    #[test]
    fn what_the_model_wants_is_read_in_all_ways_of_writing_it() {
        let right = r#"{"feature_size": 128, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400,
                        "chunk_length": 4, "n_samples": 64000, "nb_max_frames": 400}"#;
        read("", "").unwrap();
        read("", right).unwrap();
        read(&format!(r#"{{"feature_extractor": {right}}}"#), "").unwrap();
        read(r#"{"audio_token": "<sound>"}"#, right).unwrap();
        // The processor's settings count.
        read(
            &format!(r#"{{"feature_extractor": {right}}}"#),
            r#"{"feature_size": 80}"#,
        )
        .unwrap();
        read("", r#"{"chunk_length": 4.0}"#).unwrap();
    }

    #[test]
    fn what_the_model_was_not_trained_with_is_refused() {
        let alone = |what: &str, got: u32, expected: u32, like: &str| {
            let message = format!("`{what}` in preprocessor_config.json is {got}, expected {expected}, as {like}");
            refused("", &format!(r#"{{"{what}": {got}}}"#), &message);
        };
        alone("feature_size", 80, 128, "`num_mel_bins` in config.json");
        alone("sampling_rate", 24_000, 16_000, WHISPER);
        alone("hop_length", 320, 160, WHISPER);
        alone("n_fft", 512, 400, WHISPER);
        alone("chunk_length", 30, 4, "the 200 `max_source_positions` in config.json");
        refused(
            r#"{"feature_extractor": {"feature_size": 80}}"#,
            r#"{"feature_size": 128}"#,
            "`feature_size` in processor_config.json is 80, expected 128, as `num_mel_bins` in config.json",
        );
    }

    #[test]
    fn a_clip_is_cut_where_the_file_says() {
        let longest = |text: &str| serde_json::from_str::<Extractor>(text).unwrap().longest(5).ok();
        assert_eq!(longest("{}"), Some(5));
        assert_eq!(longest(r#"{"chunk_length": 300}"#), Some(4_800_000));
        assert_eq!(longest(r#"{"chunk_length": 0}"#), None);
        assert_eq!(longest(r#"{"chunk_length": -1}"#), None);
        assert_eq!(longest(r#"{"chunk_length": 1e9}"#), None);
    }
}
