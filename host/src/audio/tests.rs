//! What the decoder gives for clips whose content is known: the fixtures hold one synthetic signal
//! (see `make.sh` beside them), and wav files are written here byte by byte.

mod cache;
mod hostile;
mod resampling;
mod wav;

use std::f64::consts::PI;
use std::path::PathBuf;

use self::wav::Wav;
use super::{AudioFault, Source, Wanted, count, decode};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/audio")).join(name)
}

/// The fixtures' signal, mixed to mono.
fn sweep(frame: usize) -> f64 {
    let t = frame as f64 / 44_100.0;
    let left = 0.5 * (2.0 * PI * (300.0 * t + 2_000.0 * t * t)).sin();
    let right = 0.25 * (2.0 * PI * 880.0 * t).sin();
    (left + right) / 2.0
}

const FRAMES: usize = 13_230;

/// Root mean square of the difference to the signal, were it shifted by `shift` frames, away from the
/// edges, where a lossy codec rings.
fn error_at(shift: isize, samples: &[f32]) -> f64 {
    let inner = 600..FRAMES - 600;
    let squares: f64 = inner
        .clone()
        .map(|frame| f64::from(samples[frame]) - sweep(frame.wrapping_add_signed(shift)))
        .map(|difference| difference * difference)
        .sum();
    (squares / inner.len() as f64).sqrt()
}

/// Decodes a fixture, from the file and from memory, and holds it against the signal.
#[track_caller]
fn check(name: &str, frames: usize, tolerance: f64) {
    let path = fixture(name);
    let clip = decode(Source::File(&path), &Wanted::default()).unwrap();
    assert_eq!((clip.samples().len(), clip.rate), (frames, 44_100), "{name}");
    assert_eq!((clip.source_rate, clip.source_channels), (44_100, 2), "{name}");
    assert_eq!(clip.seconds, frames as f64 / 44_100.0, "{name}");
    assert_eq!(clip.warnings, [""; 0], "{name}");
    let error = error_at(0, clip.samples());
    assert!(
        error < tolerance,
        "{name}: error {error}, expected less than {tolerance}"
    );
    assert!(error < error_at(1, clip.samples()), "{name} is late");
    assert!(error < error_at(-1, clip.samples()), "{name} is early");

    for wanted in [
        Wanted::default(),
        Wanted {
            rate: Some(16_000),
            start: Some(0.05),
            end: Some(0.2),
            ..Wanted::default()
        },
    ] {
        let samples = decode(Source::File(&path), &wanted).unwrap().samples().len() as u64;
        let counted = count(Source::File(&path), &wanted).unwrap();
        // Only bare streams do not say it.
        let silent = ["aac", "without-header.mp3"].iter().any(|end| name.ends_with(end));
        assert_eq!(counted, (!silent).then_some(samples), "{name}");
    }
    let bytes = std::fs::read(&path).unwrap();
    let embedded = decode(Source::Bytes { name, bytes: &bytes }, &Wanted::default()).unwrap();
    assert_eq!(embedded, clip, "{name}: from memory");
}

#[test]
fn a_lossless_clip_is_the_signal_in_16_bits() {
    check("sweep.flac", FRAMES, 1e-5);
    check("sweep-alac.m4a", FRAMES, 1e-5);
}

#[test]
fn a_lossy_clip_has_the_length_and_the_place_of_the_signal() {
    check("sweep.mp3", FRAMES, 0.015);
    check("sweep.ogg", FRAMES, 0.015);
    check("sweep.m4a", FRAMES, 0.03);
}

/// Adpcm is written in whole blocks, so its last one is filled up.
#[test]
fn an_adpcm_clip_is_the_signal_and_the_rest_of_a_block() {
    check("sweep-adpcm-ima.wav", 14_238, 0.005);
    check("sweep-adpcm-ms.wav", 14_168, 0.005);
}

/// The lengths are ffmpeg's for the same files.
#[test]
fn a_stream_that_does_not_tell_its_delay_keeps_it() {
    for (name, frames) in [
        ("sweep-without-header.mp3", 14_976),
        ("sweep.aac", 14_336),
        ("falling-rate.mp3", 33408),
    ] {
        let clip = decode(Source::File(&fixture(name)), &Wanted::default()).unwrap();
        assert_eq!(clip.samples().len(), frames, "{name}");
    }
}

#[track_caller]
fn check_slice(name: &str, start: Option<f64>, end: Option<f64>, frames: std::ops::Range<usize>) {
    let path = fixture(name);
    let whole = decode(Source::File(&path), &Wanted::default()).unwrap();
    let wanted = Wanted {
        start,
        end,
        ..Wanted::default()
    };
    let slice = decode(Source::File(&path), &wanted).unwrap();
    assert!(
        *slice.samples() == whole.samples()[frames],
        "{name}: {start:?} to {end:?}"
    );
}

#[test]
fn a_slice_is_that_part_of_the_whole() {
    for name in ["sweep.flac", "sweep.mp3", "sweep.ogg", "sweep.m4a", "sweep-alac.m4a"] {
        check_slice(name, Some(0.1), Some(0.2), 4_410..8_820);
        check_slice(name, Some(0.25), None, 11_025..FRAMES);
        check_slice(name, None, Some(0.01), 0..441);
        check_slice(name, None, Some(9.0), 0..FRAMES);
    }
    check_slice("sweep-adpcm-ima.wav", Some(0.1), Some(0.2), 4_410..8_820);
}

#[track_caller]
fn check_refused_slice(start: f64, end: f64, expected: &str) {
    for name in ["sweep.flac", "sweep.mp3", "sweep.ogg", "sweep.m4a", "sweep.aac"] {
        let wanted = Wanted {
            start: Some(start),
            end: Some(end),
            ..Wanted::default()
        };
        let error = decode(Source::File(&fixture(name)), &wanted).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_slice_that_is_none_is_refused() {
    check_refused_slice(0.35, 0.5, "one that starts at 0.35 s");
    check_refused_slice(0.2, 0.2, "expected 0 <= start < end");
    check_refused_slice(-0.1, 0.2, "expected 0 <= start < end");
    check_refused_slice(f64::NAN, 0.2, "expected 0 <= start < end");
    check_refused_slice(0.1, f64::NAN, "expected 0 <= start < end");
}

#[test]
fn a_clip_past_the_limit_is_refused_and_a_short_slice_of_it_is_not() {
    for name in ["sweep.flac", "sweep.mp3", "sweep.ogg", "sweep.m4a", "sweep.aac"] {
        let wanted = Wanted {
            max_seconds: 0.1,
            ..Wanted::default()
        };
        let fault = decode(Source::File(&fixture(name)), &wanted).unwrap_err().fault;
        assert_eq!(fault, AudioFault::TooLong { limit: 0.1 }, "{name}");
        let slice = Wanted {
            start: Some(0.2),
            end: Some(0.3),
            ..wanted
        };
        assert!(decode(Source::File(&fixture(name)), &slice).is_ok(), "{name}");
    }
}

#[test]
fn at_a_high_rate_the_limit_is_as_many_frames_as_at_an_ordinary_one() {
    let wanted = Wanted {
        max_seconds: 2.0,
        ..Wanted::default()
    };
    let of = |frames: usize| {
        let wav = Wav {
            rate: 192_000,
            ..Wav::pcm16(&vec![100; frames])
        };
        decode(
            Source::Bytes {
                name: "high.wav",
                bytes: &wav.bytes(),
            },
            &wanted,
        )
    };
    assert!(of(96_000).is_ok());
    assert_eq!(
        of(96_001).unwrap_err().to_string(),
        "cannot use clip `high.wav`: it is longer than 0.5 s"
    );
}

/// The hash goes into records that outlive this version of the code.
#[test]
fn the_content_hash_is_of_the_rate_and_the_samples() {
    assert_eq!(
        super::content_hash(16_000, &[0.0, 1.0, -0.5]),
        "4c663200fb1779ae021502a62d454d6f4c2bf630fc09fd2455863d0ca5562f57",
    );
}
