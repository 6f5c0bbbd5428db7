//! Files that are not what their name says, and files that someone or something has damaged.

use std::fs;
use std::path::Path;

use super::super::{AudioError, AudioFault, Source, Wanted, decode};
use super::wav::Wav;
use super::{FRAMES, fixture};

fn decode_bytes(name: &str, bytes: &[u8]) -> Result<super::super::Decoded, AudioError> {
    decode(Source::Bytes { name, bytes }, &Wanted::default())
}

#[track_caller]
fn check_not_audio(bytes: &[u8], expected: &str) {
    let error = decode_bytes("row 7.wav", bytes).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot use clip `row 7.wav`: {expected}"));
}

#[test]
fn a_file_that_is_no_audio_is_told_by_what_it_is() {
    let wanted = "expected wav, flac, mp3, ogg, m4a, aac or aiff, got";
    check_not_audio(
        b"A dog barks twice.\n",
        &format!("{wanted} text that starts \"A dog barks twice.\""),
    );
    check_not_audio(
        b"<!DOCTYPE html><html><body>Not found</body></html>",
        &format!("{wanted} text that starts \"<!DOCTYPE html><html><bo\""),
    );
    check_not_audio(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        &format!("{wanted} a Git LFS pointer"),
    );
    check_not_audio(
        &[0x89, 0x50, 0x4e, 0x47, 1, 2, 3, 4, 5],
        &format!("{wanted} bytes that start 89 50 4e 47 01 02 03 04"),
    );
    check_not_audio(b"", "it holds no samples");
}

#[test]
fn a_file_that_is_not_there_or_is_a_folder_is_named() {
    let missing = decode(Source::File(Path::new("/nowhere/a.wav")), &Wanted::default()).unwrap_err();
    assert!(matches!(missing.fault, AudioFault::Unreadable(_)), "{missing}");
    assert!(missing.to_string().contains("`/nowhere/a.wav`"), "{missing}");
    let folder = tempfile::tempdir().unwrap();
    let error = decode(Source::File(folder.path()), &Wanted::default()).unwrap_err();
    assert!(error.to_string().ends_with("(it is not a regular file)"), "{error}");
}

/// The bytes of a fixture, with `length` of them overwritten from the middle on.
fn damaged(name: &str, length: usize) -> Vec<u8> {
    let mut bytes = fs::read(fixture(name)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + length].fill(0x55);
    bytes
}

#[test]
fn damage_in_a_lossy_clip_is_silence_and_a_warning() {
    let clip = decode_bytes("sweep.m4a", &damaged("sweep.m4a", 600)).unwrap();
    assert_eq!(clip.samples().len(), FRAMES, "what follows stays in its place");
    assert_eq!(clip.warnings.len(), 1, "{:?}", clip.warnings);
    assert!(
        clip.warnings[0].starts_with("damaged packets replaced by silence: "),
        "{:?}",
        clip.warnings
    );

    // Two packets of this one lost their sync words too, so nothing says that they were there.
    let clip = decode_bytes("sweep.mp3", &damaged("sweep.mp3", 600)).unwrap();
    assert!(clip.samples().len() < FRAMES && clip.samples().len() > FRAMES / 2);
    assert_eq!(clip.warnings.len(), 2, "{:?}", clip.warnings);
}

#[track_caller]
fn check_fault(bytes: &[u8], expected: impl Fn(&AudioFault) -> bool) {
    let error = decode_bytes("row 7", bytes).unwrap_err();
    assert!(expected(&error.fault), "{error}");
}

#[test]
fn damage_that_silence_cannot_bridge_is_an_error() {
    let whole = FRAMES as u64;
    let cut = |fault: &AudioFault| matches!(fault, AudioFault::CutShort { expected, got } if *expected == whole && *got < whole);
    check_fault(&damaged("sweep.flac", 16), cut);
    let bytes = fs::read(fixture("sweep.flac")).unwrap();
    check_fault(&bytes[..bytes.len() * 2 / 3], cut);
    // The table of its packets stands at the end of this file.
    let bytes = fs::read(fixture("sweep.m4a")).unwrap();
    let torn = |fault: &AudioFault| matches!(fault, AudioFault::Damaged(why) if why.starts_with("it starts as "));
    check_fault(&bytes[..bytes.len() * 2 / 3], torn);
    check_fault(b"RIFF", torn);
    check_fault(
        &damaged("sweep.ogg", 16),
        |fault| matches!(fault, AudioFault::Damaged(why) if why.contains("crc")),
    );
}

#[test]
fn an_mp3_that_is_cut_is_used_as_far_as_it_goes() {
    let bytes = fs::read(fixture("sweep.mp3")).unwrap();
    let clip = decode_bytes("sweep.mp3", &bytes[..bytes.len() * 2 / 3]).unwrap();
    let frames = clip.samples().len();
    assert!(frames > FRAMES / 2 && frames < FRAMES, "{frames}");
    assert_eq!(
        clip.warnings,
        [format!("its header promises {FRAMES} frames, it holds {frames}")]
    );
}

/// Every fixture, with bytes changed at random many times: an answer or an error each time, never a
/// panic, and never more than the file could hold.
#[test]
fn no_damage_makes_the_decoder_panic_or_run_away() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    let mut files = vec![Wav::pcm16(&[100; 3_000]).bytes(), Wav::float(&[0.5; 3_000]).bytes()];
    for entry in fs::read_dir(fixture("")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "sh") {
            files.push(fs::read(path).unwrap());
        }
    }
    let wanted = Wanted {
        max_seconds: 60.0,
        ..Wanted::default()
    };
    for file in files {
        for _ in 0..30 {
            let mut bytes = file.clone();
            for _ in 0..1 + random() % 8 {
                // Half of the changes in the headers, where they do most harm.
                let reach = if random() % 2 == 0 {
                    bytes.len().min(200)
                } else {
                    bytes.len()
                };
                let at = random() % reach;
                bytes[at] = random() as u8;
            }
            if random() % 4 == 0 {
                bytes.truncate(random() % bytes.len());
            }
            match decode(
                Source::Bytes {
                    name: "hostile",
                    bytes: &bytes,
                },
                &wanted,
            ) {
                Ok(clip) => {
                    assert!(!clip.samples().is_empty() && clip.seconds <= 60.0);
                    assert!(clip.samples().iter().all(|sample| sample.is_finite()));
                }
                Err(error) => assert_eq!(error.clip, "hostile"),
            }
        }
    }
}
