//! That clips are shared, and let go when there are too many.

use std::fs;
use std::sync::{Arc, Barrier};
use std::thread;

use super::super::{Clips, Source, Wanted};
use super::wav::Wav;
use super::{FRAMES, fixture};

/// A clip of 100 samples, 400 bytes decoded, told apart by its value.
fn clip_bytes(value: i16) -> Vec<u8> {
    Wav::pcm16(&[value; 100]).bytes()
}

fn source(bytes: &[u8]) -> Source<'_> {
    Source::Bytes { name: "clip", bytes }
}

#[test]
fn threads_that_ask_at_once_share_one_decoding() {
    let clips = Clips::new(1 << 20);
    let start = Barrier::new(8);
    let path = fixture("sweep.flac");
    let got: Vec<_> = thread::scope(|scope| {
        let ask = || {
            start.wait();
            clips.get(Source::File(&path), &Wanted::default()).unwrap()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(got.iter().all(|clip| Arc::ptr_eq(clip, &got[0])));
    assert_eq!(clips.bytes(), FRAMES * 4);
}

#[test]
fn the_same_bytes_are_the_same_clip_and_another_rate_is_another() {
    let clips = Clips::new(1 << 20);
    let (one, same) = (clip_bytes(1), clip_bytes(1));
    let first = clips.get(source(&one), &Wanted::default()).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &clips.get(source(&same), &Wanted::default()).unwrap()
    ));
    let other_rate = Wanted {
        rate: Some(8_000),
        ..Wanted::default()
    };
    assert_eq!(clips.get(source(&one), &other_rate).unwrap().rate, 8_000);
    let part = Wanted {
        end: Some(0.001),
        ..Wanted::default()
    };
    assert_eq!(clips.get(source(&one), &part).unwrap().samples().len(), 16);
}

#[test]
fn the_clip_unused_for_longest_is_let_go() {
    let clips = Clips::new(1_000);
    let bytes: Vec<_> = (1..=3).map(clip_bytes).collect();
    let get = |index: usize| clips.get(source(&bytes[index]), &Wanted::default()).unwrap();
    let (first, second) = (get(0), get(1));
    assert!(Arc::ptr_eq(&first, &get(0)));
    get(2);
    assert_eq!(clips.bytes(), 800);
    assert!(Arc::ptr_eq(&first, &get(0)), "used again since, so kept");
    assert!(!Arc::ptr_eq(&second, &get(1)), "let go, so decoded again");
}

#[test]
fn a_clip_larger_than_the_cache_is_given_but_not_kept() {
    let clips = Clips::new(399);
    let bytes = clip_bytes(1);
    assert_eq!(
        clips.get(source(&bytes), &Wanted::default()).unwrap().samples().len(),
        100
    );
    assert_eq!(clips.bytes(), 0);
}

#[test]
fn a_failure_is_not_kept() {
    let clips = Clips::new(1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.wav");
    let error = clips.get(Source::File(&path), &Wanted::default()).unwrap_err();
    assert!(error.to_string().contains("late.wav"), "{error}");
    fs::write(&path, clip_bytes(1)).unwrap();
    assert!(clips.get(Source::File(&path), &Wanted::default()).is_ok());
}
