//! Features equal the reference's recordings, made by `golden/make.py`.

use audio::{Fbank, HOP, LogMel, MelExtractor, RATE};
use serde_json::Value;
use std::path::PathBuf;

/// Compared with fp64, the reference itself is off by up to 3e-5 near its floor.
const CLOSE: f32 = 5e-5;

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden");
    std::fs::read(folder.join(name)).unwrap()
}

fn sound() -> Vec<f32> {
    let bytes = golden("sound.i16");
    let (pairs, _) = bytes.as_chunks::<2>();
    pairs
        .iter()
        .map(|&pair| f32::from(i16::from_le_bytes(pair)) / 32_768.0)
        .collect()
}

#[test]
fn recorded_features_are_reproduced() {
    let (sound, bytes) = (sound(), golden("features.f32"));
    let (quads, _) = bytes.as_chunks::<4>();
    let mut recorded = quads.iter().map(|&quad| f32::from_le_bytes(quad));
    let cases: Vec<Value> = serde_json::from_slice(&golden("features.json")).unwrap();
    for case in &cases {
        let number = |name: &str| case[name].as_u64().unwrap() as usize;
        let bins = number("bins");
        let mel = MelExtractor::new(bins).log_mel(&sound[..number("samples")], number("padded"));
        assert_eq!(
            (mel.heard(), mel.frames()),
            (number("heard"), number("frames")),
            "{case}"
        );
        let rows = mel.rows(usize::MAX);
        for frame in case["kept"].as_array().unwrap() {
            let frame = frame.as_u64().unwrap() as usize;
            for (bin, got) in rows[frame * bins..][..bins].iter().enumerate() {
                let expected = recorded.next().unwrap();
                assert!(
                    (got - expected).abs() < CLOSE,
                    "frame {frame}, bin {bin}: {got}, expected {expected}; {case}"
                );
            }
        }
    }
    assert_eq!(recorded.next(), None);
}

#[test]
fn a_clip_costs_what_it_is_long_and_padding_is_the_same_everywhere() {
    let sound = sound();
    let short = MelExtractor::new(80).log_mel(&sound, 30 * RATE);
    let long = MelExtractor::new(80).log_mel(&sound, 300 * RATE);
    assert_eq!(short.rows(3000), long.rows(3000));
    assert_eq!(long.rows(usize::MAX).len(), 30_000 * 80);
}

/// Compares clips that fill their padding, which is then computed, with clips before which padding is not.
#[test]
fn silence_at_the_end_of_a_clip_is_padding() {
    let (sound, extractor) = (sound(), MelExtractor::new(80));
    for padded in [400, 401, 799, 1_600, 7_000] {
        for samples in (0..padded.min(2_400)).step_by(41).chain([1, 159, 160, 161, padded - 1]) {
            let mut filled = sound[..samples].to_vec();
            filled.resize(padded, 0.0);
            let (short, whole) = (
                extractor.log_mel(&sound[..samples], padded),
                extractor.log_mel(&filled, padded),
            );
            assert_eq!(short.rows(usize::MAX), whole.rows(usize::MAX), "{samples} of {padded}");
            assert_eq!(short.frames(), padded / HOP);
        }
    }
}

/// Frames are computed in parallel, in blocks and on several threads. The result must not show it.
#[test]
fn a_frame_is_the_same_wherever_it_lies() {
    let (sound, extractor) = (sound(), MelExtractor::new(128));
    let rows = |samples: &[f32]| extractor.log_mel(samples, samples.len()).rows(usize::MAX).into_owned();
    let all = rows(&sound);
    let loudest = all.iter().copied().fold(f32::MIN, f32::max);
    for steps in 1..=37 {
        let later = rows(&sound[steps * HOP..]);
        // The loudest frame is among them, since the floor depends on it; the first ones overlap the mirrored sound.
        assert_eq!(later.iter().copied().fold(f32::MIN, f32::max), loudest, "{steps}");
        assert_eq!(later[2 * 128..], all[(steps + 2) * 128..], "{steps}");
        let bank = Fbank::new(128);
        assert_eq!(
            bank.log_energies(&sound[steps * HOP..]),
            bank.log_energies(&sound)[steps * 128..]
        );
    }
    for threads in [1, 2, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| rows(&sound)), all, "{threads} threads");
    }
}

#[test]
fn several_clips_are_heard_as_each_alone() {
    let (sound, extractor) = (sound(), MelExtractor::new(80));
    let clips = [&sound[..800], &sound[..1], &sound[..], &[], &sound[9_000..9_399]];
    let each: Vec<LogMel> = clips.iter().map(|clip| extractor.log_mel(clip, RATE)).collect();
    assert_eq!(extractor.log_mels(&clips, RATE), each);
}

#[test]
fn silence_is_silence() {
    let mel = MelExtractor::new(80).log_mel(&[0.0; 480], RATE);
    assert!(mel.rows(100).iter().all(|&value| value == -1.5));
}

#[test]
fn recorded_filter_banks_are_reproduced() {
    let (sound, bytes) = (sound(), golden("fbank.f32"));
    let (quads, _) = bytes.as_chunks::<4>();
    let mut recorded = quads.iter().map(|&quad| f32::from_le_bytes(quad));
    let cases: Vec<Value> = serde_json::from_slice(&golden("fbank.json")).unwrap();
    for case in &cases {
        let number = |name: &str| case[name].as_u64().unwrap() as usize;
        let (bins, samples) = (number("bins"), number("samples"));
        let got = Fbank::new(bins).log_energies(&sound[..samples]);
        assert_eq!(Fbank::frames(samples), number("frames"), "{case}");
        assert_eq!(got.len(), number("frames") * bins, "{case}");
        for frame in case["kept"].as_array().unwrap() {
            let frame = frame.as_u64().unwrap() as usize;
            for (bin, got) in got[frame * bins..][..bins].iter().enumerate() {
                let expected = recorded.next().unwrap();
                assert!(
                    (got - expected).abs() < CLOSE,
                    "frame {frame}, bin {bin}: {got}, expected {expected}; {case}"
                );
            }
        }
    }
    assert_eq!(recorded.next(), None);
}
