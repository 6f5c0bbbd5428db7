//! Times one part of audio encoding: repeats it as often as each input line says, and prints the mean time.
//! `examples/peers/hearing.py` runs it beside transformers.
//!
//!     cargo run --release -p nn --example hearing -- encoder bf16 30 1 32
//!
//! The arguments are the part, the type, seconds of a clip, clips, and layers of the encoder. The encoder has the
//! shape of Whisper's large one, and random weights.

use audio::{LogMel, MelExtractor, RATE};
use candle_core::{DType, Device};
use nn::Weights;
use nn::encoder::{Block, Encoder, EncoderConfig};
use std::io::BufRead;
use std::time::Instant;

/// Frames that Qwen2.5-Omni's encoder takes at a time.
const CHUNK: usize = 200;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The processor time in seconds of this process on all cores.
fn processor() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_task = |path: std::path::PathBuf| {
        let stat = std::fs::read_to_string(path.join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(|task| of_task(task.path())).sum::<f64>() * 1e-9
}

fn encoder(dtype: &str, layers: usize, stored_positions: bool) -> Result<Encoder> {
    let config = EncoderConfig {
        bins: 128,
        width: 1280,
        layers,
        heads: 20,
        inner: 5120,
        positions: 1500,
        stored_positions,
    };
    let dtype = if dtype == "bf16" { DType::BF16 } else { DType::F32 };
    Ok(Encoder::load(&config, &Weights::random(dtype, &Device::Cpu)?)?)
}

#[allow(clippy::print_stdout)] // an example's output is what it is for
fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [what, dtype, seconds, clips, layers] = words.as_slice() else {
        return Err(
            "expected five arguments: features80|features128|encoder|chunks fp32|bf16 SECONDS CLIPS LAYERS".into(),
        );
    };
    let (seconds, clips, layers): (usize, usize, usize) = (seconds.parse()?, clips.parse()?, layers.parse()?);
    let sound: Vec<f32> = (0..seconds * RATE)
        .map(|n| (n as f32 * 0.05).sin() * (n as f32 * 0.0007).cos())
        .collect();
    let extractor = MelExtractor::new(if what == "features80" { 80 } else { 128 });
    let mels = || -> Vec<LogMel> { extractor.log_mels(&vec![&sound[..]; clips], 30 * RATE) };
    let chunked = |mel: &LogMel| -> Vec<Block> {
        let rows = mel.rows(mel.heard());
        let pieces = rows.chunks(CHUNK * mel.bins());
        pieces.map(|rows| Block::alone(rows.to_vec(), mel.bins())).collect()
    };
    let work: Box<dyn Fn() -> Result<()>> = match what.as_str() {
        "encoder" | "chunks" => {
            let encoder = encoder(dtype, layers, what == "encoder")?;
            let blocks: Vec<Block> = match what.as_str() {
                "encoder" => mels().iter().map(Block::heard).collect(),
                _ => mels().iter().flat_map(chunked).collect(),
            };
            Box::new(move || Ok(encoder.forward(&blocks).map(drop)?))
        }
        _ => Box::new(move || {
            // All frames, as transformers computes them.
            mels()
                .iter()
                .for_each(|mel| drop(std::hint::black_box(mel.rows(mel.frames()))));
            Ok(())
        }),
    };
    work()?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let times: u32 = line?.trim().parse()?;
        let (clock, before) = (Instant::now(), processor());
        for _ in 0..times {
            work()?;
        }
        let (seconds, of_processor) = (clock.elapsed().as_secs_f64(), processor() - before);
        println!("{} {}", seconds / f64::from(times), of_processor / f64::from(times));
    }
    Ok(())
}
