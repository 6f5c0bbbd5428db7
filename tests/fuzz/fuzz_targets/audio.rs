//! Any bytes as a clip: an error or finite samples, never more of them than was allowed.
//!
//! The decoders' arithmetic can overflow, which is a panic where that is checked. The host takes it for damage, so here
//! too only a panic that gets out of it counts.
#![no_main]

use host::audio::{Source, Wanted, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: std::panic::set_hook(Box::new(|_| ())), |bytes: &[u8]| {
    let wanted = Wanted {
        rate: Some(16_000),
        max_seconds: 20.0,
        ..Wanted::default()
    };
    if let Ok(clip) = decode(Source::Bytes { name: "clip", bytes }, &wanted) {
        assert!(!clip.samples().is_empty() && clip.samples().len() <= 16_000 * 21);
        assert!(clip.samples().iter().all(|sample| sample.is_finite()));
    }
});
