//! Steps of training on random rows: tokens a second of processor time, and peak memory.
//!
//!     cargo run --release -p train --example step -- FOLDER [rows=4] [tokens=80] [learnt=4] [steps=2]
//!         [method=lora|qlora|full] [precision=fp32|bf16|bf16-pure] [rank=16]
//!
//! `examples/peers/training_peft.py` does the same by PEFT.

use candle_core::{DType, Device};
use nn::dense::{Config, Decoder};
use nn::{Decoder as _, Weights};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;
use train::{Engine, EngineSettings, LoraSettings, Method, Precision, Row, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut given = std::env::args().skip(1);
    let folder = given.next().ok_or("give the folder of a checkpoint")?;
    let given: BTreeMap<String, String> = given
        .filter_map(|one| {
            one.split_once('=')
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
        })
        .collect();
    let number = |name: &str, otherwise: usize| given.get(name).map_or(Ok(otherwise), |value| value.parse());
    let (rows, tokens, learnt, steps) = (
        number("rows", 4)?,
        number("tokens", 80)?,
        number("learnt", 4)?,
        number("steps", 2)?,
    );
    let settings = EngineSettings {
        method: match given.get("method").map(String::as_str) {
            Some("full") => Method::Full,
            Some("qlora") => Method::Qlora,
            _ => Method::Lora,
        },
        precision: match given.get("precision").map(String::as_str) {
            Some("bf16") => Precision::Bf16,
            Some("bf16-pure") => Precision::PureBf16,
            _ => Precision::Fp32,
        },
        lora: LoraSettings {
            r: number("rank", 16)?,
            lora_alpha: 2.0 * number("rank", 16)? as f64,
            target_modules: "all-linear".into(),
            ..LoraSettings::default()
        },
        ..EngineSettings::default()
    };
    let blueprint = {
        let weights = Weights::open(Path::new(&folder), DType::BF16, &Device::Cpu)?;
        let config = Config::from_folder(Path::new(&folder))?;
        let decoder = Decoder::load(&config, &weights)?;
        decoder.blueprint().ok_or("no blueprint")?.unshared()
    };
    let before = peak();
    let mut engine = Trainer::new(&blueprint, None, &settings).map_err(told)?;
    let row = |number: usize| {
        let ids: Vec<u32> = (0..tokens)
            .map(|n| ((number * 7919 + n * 104_729 + 11) % blueprint.vocabulary) as u32)
            .collect();
        let learn: Vec<bool> = (0..tokens).map(|n| n + learnt >= tokens).collect();
        Row::masked(ids, &learn)
    };
    let rows: Vec<Row> = (0..rows).map(row).collect();
    let items: u64 = rows.iter().map(Row::learnt).sum();
    let mut losses = vec![engine.learn(&rows, items).map_err(told)?.loss / items as f64];
    engine.step(1e-4).map_err(told)?;
    let (began, wall) = (processor_seconds(), Instant::now());
    let mut updates = 0.0;
    for _ in 0..steps {
        losses.push(engine.learn(&rows, items).map_err(told)?.loss / items as f64);
        let at = processor_seconds();
        engine.step(1e-4).map_err(told)?;
        updates += processor_seconds() - at;
    }
    let spent = (processor_seconds() - began) / steps as f64;
    let tokens = rows.iter().map(|row| row.ids.len()).sum::<usize>();
    let told = serde_json::json!({
        "tokens_per_processor_second": tokens as f64 / spent, "processor_seconds_per_step": spent,
        "seconds_per_step": wall.elapsed().as_secs_f64() / steps as f64, "of_it_update": updates / steps as f64,
        "peak_memory_mb": peak(), "peak_before_training_mb": before, "losses": losses, "precision": engine.facts().precision,
    });
    use std::io::Write;
    writeln!(std::io::stdout(), "{told}")?;
    Ok(())
}

fn told(error: plugin_api::Error) -> String {
    error.to_string()
}

/// The processor time of all threads of this process.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let behind = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("0");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) / 1024
}
