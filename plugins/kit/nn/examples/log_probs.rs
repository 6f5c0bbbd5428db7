//! Writes the log-probabilities of all tokens of the vocabulary at positions of texts, which are read as token ids;
//! `examples/peers/gguf_log_probs.py` compares them with llama.cpp's.
//!
//!     echo '{"ids": [504, 3575, 282], "from": 2}' | cargo run --release -p nn --example log_probs -- model.gguf blocks
//!     out.f32
//!
//! The arguments are the weights of a dense text model, whether blocks of a GGUF file stay packed (`blocks`) or are
//! `unpacked` to fp32, and the file to write: fp32 values, one row for each token from position `from` on.

use candle_core::{DType, Device, Tensor};
use nn::dense::{Config, Decoder};
use nn::{Decoder as _, Step, Weights};
use serde::Deserialize;
use std::io::{BufRead, Write};
use std::path::Path;

#[derive(Deserialize)]
struct Text {
    ids: Vec<u32>,
    from: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [weights, how @ ("blocks" | "unpacked"), out] = words.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        return Err("expected three arguments: WEIGHTS blocks|unpacked OUT".into());
    };
    let opened = Weights::open(Path::new(weights), DType::F32, &Device::Cpu)?.unpacked(how == "unpacked");
    let decoder = Decoder::load(&Config::from_folder(Path::new(weights))?, &opened)?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    for line in std::io::stdin().lock().lines() {
        let text: Text = serde_json::from_str(&line?)?;
        let x = decoder.embed(&Tensor::new(text.ids.as_slice(), &Device::Cpu)?)?;
        let mut step = Step::whole(text.ids.len())?;
        let hidden = decoder.forward(&x, &mut step)?;
        step.finish();
        let rows = hidden.narrow(0, text.from, text.ids.len() - text.from)?;
        let logits = decoder.logits(&rows)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for row in logits {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|logit| f64::from(logit - most).exp()).sum();
            for logit in row {
                out.write_all(&((f64::from(logit - most) - sum.ln()) as f32).to_le_bytes())?;
            }
        }
    }
    Ok(out.flush()?)
}
