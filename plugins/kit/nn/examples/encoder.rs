//! How fast the audio encoder is: `cargo run --release -p nn --example encoder`. Beside it, `golden/encoder.py` says the
//! same of transformers'. Both take the first layers of Whisper's large encoder, with random weights.

use audio::{MelExtractor, RATE};
use candle_core::{DType, Device};
use nn::Weights;
use nn::encoder::{Block, Encoder, EncoderConfig};
use std::time::Instant;

#[allow(clippy::print_stdout)] // an example's output is what it is for
fn main() -> Result<(), nn::Error> {
    let config = EncoderConfig {
        bins: 128,
        width: 1280,
        layers: 4,
        heads: 20,
        inner: 5120,
        positions: 1500,
        stored_positions: true,
    };
    let encoder = Encoder::load(&config, &Weights::random(DType::F32, &Device::Cpu)?)?;
    let sound: Vec<f32> = (0..30 * RATE).map(|n| (n as f32 * 0.05).sin()).collect();
    let mel = MelExtractor::new(128);
    for seconds in [2, 10, 30] {
        let features = mel.log_mel(&sound[..seconds * RATE], 30 * RATE);
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let start = Instant::now();
                let out = encoder.forward(&[Block::heard(&features)]);
                out.map(|_| start.elapsed().as_secs_f64())
            })
            .collect::<Result<_, _>>()?;
        times.sort_by(f64::total_cmp);
        println!("{seconds} s of sound through 4 layers: {:.2} s", times[times.len() / 2]);
    }
    Ok(())
}
