//! Resampling against what the signal is at the new sample times, computed and not resampled.

use std::f64::consts::PI;

use super::super::{AudioFault, Source, Wanted, decode, resample};
use super::fixture;

fn tone(frequency: f64, rate: u32, frames: usize) -> Vec<f32> {
    (0..frames)
        .map(|frame| (0.5 * (2.0 * PI * frequency * frame as f64 / f64::from(rate)).sin()) as f32)
        .collect()
}

/// The largest error of a resampled tone of half scale, 0.1 s away from both ends: the tone begins and
/// ends abruptly, and no resampler can know what would have been there.
fn tone_error(frequency: f64, from: u32, to: u32) -> f64 {
    let resampled = resample(tone(frequency, from, from as usize), from, to).unwrap();
    let expected = tone(frequency, to, to as usize);
    assert_eq!(resampled.len(), expected.len());
    let edge = to as usize / 10;
    (edge..expected.len() - edge)
        .map(|frame| f64::from((resampled[frame] - expected[frame]).abs()))
        .fold(0.0, f64::max)
}

#[track_caller]
fn check_tone(frequency: f64, from: u32, to: u32) {
    let error = tone_error(frequency, from, to);
    assert!(error < 5e-6, "{frequency} Hz from {from} to {to}: error {error}");
}

#[test]
fn a_tone_keeps_its_amplitude_and_its_phase() {
    check_tone(440.0, 44_100, 16_000);
    check_tone(440.0, 48_000, 16_000);
    check_tone(440.0, 22_050, 16_000);
    check_tone(440.0, 8_000, 16_000);
    check_tone(440.0, 11_025, 24_000);
    check_tone(440.0, 16_000, 44_100);
    // Rates without a common divisor.
    check_tone(440.0, 44_101, 16_000);
    // Close below the lower Nyquist frequency.
    check_tone(7_600.0, 44_100, 16_000);
    check_tone(3_800.0, 8_000, 16_000);
}

#[test]
fn what_the_new_rate_cannot_hold_is_removed() {
    for frequency in [8_200.0, 9_000.0, 12_345.0, 20_000.0] {
        let resampled = resample(tone(frequency, 44_100, 44_100), 44_100, 16_000).unwrap();
        let loudest = resampled[1_600..14_400]
            .iter()
            .fold(0.0_f32, |most, sample| most.max(sample.abs()));
        assert!(loudest < 1e-6, "{frequency} Hz: {loudest}");
    }
}

#[test]
fn a_click_stays_where_it_is() {
    let mut click = vec![0.0; 44_100];
    click[4_410] = 1.0;
    let resampled = resample(click, 44_100, 16_000).unwrap();
    let (before, at, after) = (resampled[1_599], resampled[1_600], resampled[1_601]);
    assert!(at > 0.3 && at > before && at > after, "{before} {at} {after}");
    assert!((before - after).abs() < 1e-6, "{before} {after}");
}

#[test]
fn n_samples_become_n_times_the_ratio_rounded_up() {
    for (frames, from, to, expected) in [
        (1, 44_100, 16_000, 1),
        (2, 8_000, 16_000, 4),
        (3, 44_100, 16_000, 2),
        (441, 44_100, 16_000, 160),
        (442, 44_100, 16_000, 161),
        (44_100, 44_100, 16_000, 16_000),
        (100_000, 44_100, 48_000, 108_844),
        (12_345, 22_050, 16_000, 8_958),
        (16_000, 16_000, 44_100, 44_100),
        (5, 1_000, 768_000, 3_840),
        (768_000, 768_000, 1_000, 1_000),
    ] {
        let resampled = resample(vec![0.25; frames], from, to).unwrap();
        assert_eq!(resampled.len(), expected, "{frames} from {from} to {to}");
    }
}

#[test]
fn the_end_of_a_clip_is_not_lost() {
    let resampled = resample(vec![0.25; 44_100], 44_100, 16_000).unwrap();
    assert!(
        resampled[8_000..15_980]
            .iter()
            .all(|sample| (sample - 0.25).abs() < 0.01)
    );
}

#[test]
fn the_same_rate_changes_no_bit() {
    let samples = tone(440.0, 16_000, 1_234);
    let bits = |samples: &[f32]| samples.iter().map(|sample| sample.to_bits()).collect::<Vec<_>>();
    assert_eq!(
        bits(&resample(samples.clone(), 16_000, 16_000).unwrap()),
        bits(&samples)
    );
    assert_eq!(resample(Vec::new(), 8_000, 16_000).unwrap(), [0.0; 0]);
}

#[test]
fn a_rate_out_of_reach_is_refused() {
    for rate in [0, 999, 768_001] {
        assert_eq!(resample(vec![0.0], 16_000, rate), Err(AudioFault::Rate(rate)));
        assert_eq!(resample(vec![0.0], rate, 16_000), Err(AudioFault::Rate(rate)));
    }
}

#[test]
fn a_decoded_clip_has_the_wanted_rate() {
    let wanted = Wanted {
        rate: Some(16_000),
        ..Wanted::default()
    };
    let clip = decode(Source::File(&fixture("sweep.flac")), &wanted).unwrap();
    assert_eq!(
        (clip.rate, clip.samples().len(), clip.source_rate),
        (16_000, 4_800, 44_100)
    );
    assert_eq!(clip.seconds, 0.3);
}
