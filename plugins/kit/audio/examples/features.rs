//! How fast features are: `cargo run --release -p audio --example features`. Beside it, `python golden/bench.py` says
//! the same of transformers' extractor.

use audio::{MelExtractor, RATE};
use std::time::Instant;

#[allow(clippy::print_stdout)] // an example's output is what it is for
fn main() {
    let sound: Vec<f32> = (0..30 * RATE)
        .map(|n| (n as f32 * 0.05).sin() * (n as f32 * 0.0007).cos())
        .collect();
    let extractor = MelExtractor::new(128);
    for seconds in [2, 10, 30] {
        let clip = &sound[..seconds * RATE];
        let mut times: Vec<f64> = (0..30)
            .map(|_| {
                let start = Instant::now();
                std::hint::black_box(extractor.log_mel(clip, 30 * RATE));
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{seconds} s of sound, padded to 30 s: {:.2} ms", times[times.len() / 2]);
    }
}
