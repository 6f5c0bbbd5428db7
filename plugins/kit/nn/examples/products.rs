//! How fast products with weights are here, by what the weights are stored as and how many rows share them.
//!
//!     cargo run --release -p nn --example products
//!
//! Per second of one core's time, so that other work on the machine counts little: operations where many rows share the
//! weights, bytes of weights where few do. Two matrices are taken in turns, so that none waits in the nearest cache.

use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Result, Tensor};
use nn::Matrix;
use std::time::{Duration, Instant};

const SHAPES: [(usize, usize); 2] = [(3072, 1024), (1024, 3072)]; // outputs and inputs

/// The time that this process has had of all cores.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[allow(clippy::print_stdout)] // an example's output is what it is for
fn main() -> Result<()> {
    let random = |shape: (usize, usize)| Tensor::randn(0f32, 1.0, shape, &Device::Cpu);
    for name in ["fp32", "bf16", "q8_0", "q4_k"] {
        let matrices = SHAPES.map(|shape| {
            let weight = random(shape)?;
            let quantise = |quant| Matrix::quantise(&weight, quant, DType::F32, &Device::Cpu);
            match name {
                "bf16" => Matrix::new(weight.to_dtype(DType::BF16)?),
                "q8_0" => quantise(GgmlDType::Q8_0),
                "q4_k" => quantise(GgmlDType::Q4K),
                _ => Matrix::new(weight),
            }
        });
        for rows in [1, 8, 80, 512] {
            let mut times = 0;
            let xs = [random((rows, 1024))?, random((rows, 3072))?];
            for (matrix, x) in matrices.iter().zip(&xs) {
                matrix
                    .as_ref()
                    .map_err(|e| candle_core::Error::Msg(e.to_string()))?
                    .product(x)?;
            }
            let (began, before) = (Instant::now(), processor());
            while times < 4 || processor() - before < Duration::from_millis(400) {
                for (matrix, x) in matrices.iter().flatten().zip(&xs) {
                    matrix.product(x)?;
                }
                times += 1;
            }
            let seconds = (processor() - before).as_secs_f64() / f64::from(times);
            let work = 2.0 * 2.0 * rows as f64 * 3072.0 * 1024.0;
            let bytes: usize = matrices.iter().flatten().map(Matrix::bytes).sum();
            println!(
                "{name} {rows:4} rows: {:7.1} GFLOP and {:6.2} GB a second of one core; {:.2} cores busy",
                work / seconds / 1e9,
                bytes as f64 / seconds / 1e9,
                seconds * f64::from(times) / began.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}
