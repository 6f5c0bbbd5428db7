//! Measures products with weights, by the stored type and the number of rows that share them.
//!
//!     cargo run --release -p kernels --example products [-- q6_k …]
//!
//! Per second of one core's time, so that other work on the machine counts little: operations where many rows share
//! the weights, bytes of weights where few do. Two matrices alternate, so that neither stays in the first-level cache.

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{DType, Device, Module, Result, Tensor};
use kernels::Matrix;
use std::time::{Duration, Instant};

const SHAPES: [(usize, usize); 2] = [(3072, 1024), (1024, 3072)]; // outputs, inputs

/// The processor time of this process on all cores.
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

/// Multiplies x by its weights.
type Product = Box<dyn Fn(&Tensor) -> Result<Tensor>>;

/// Our product, and candle's if it multiplies blocks, with the bytes that each reads.
fn products(name: &str, shape: (usize, usize)) -> Result<Vec<(&'static str, Product, usize)>> {
    let weight = Tensor::randn(0f32, 1.0, shape, &Device::Cpu)?;
    let ours = |matrix: Matrix| -> (&'static str, Product, usize) {
        let bytes = matrix.bytes();
        ("", Box::new(move |x| matrix.product(x)), bytes)
    };
    let dtype = match name {
        "fp32" => return Ok(vec![ours(Matrix::new(weight)?)]),
        "bf16" => return Ok(vec![ours(Matrix::new(weight.to_dtype(DType::BF16)?)?)]),
        "q8_0" => GgmlDType::Q8_0,
        "q6_k" => GgmlDType::Q6K,
        "q5_k" => GgmlDType::Q5K,
        "q5_0" => GgmlDType::Q5_0,
        "q4_0" => GgmlDType::Q4_0,
        _ => GgmlDType::Q4K,
    };
    let blocks = QTensor::quantize(&weight, dtype)?;
    let packed = Matrix::quantised(QTensor::quantize(&weight, dtype)?).map_err(candle_core::Error::wrap)?;
    let (bytes, theirs) = (blocks.storage_size_in_bytes(), QMatMul::from_qtensor(blocks)?);
    Ok(vec![
        ours(packed),
        (" by candle", Box::new(move |x| theirs.forward(x)), bytes),
    ])
}

#[allow(clippy::print_stdout)] // an example's output is what it is for
fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in ["fp32", "bf16", "q8_0", "q6_k", "q5_k", "q5_0", "q4_k", "q4_0"] {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let [large, small] = SHAPES.map(|shape| products(name, shape));
        for (large, small) in large?.into_iter().zip(small?) {
            let (by, bytes) = (large.0, large.2 + small.2);
            for rows in [1, 8, 80, 512] {
                let xs = [1024, 3072].map(|inputs| Tensor::randn(0f32, 1.0, (rows, inputs), &Device::Cpu));
                let [x, y] = xs;
                let (x, y) = (x?, y?);
                let both = || Ok::<_, candle_core::Error>((large.1(&x)?, small.1(&y)?));
                both()?;
                let mut times = 0;
                let (began, before) = (Instant::now(), processor());
                while times < 4 || processor() - before < Duration::from_millis(400) {
                    both()?;
                    times += 1;
                }
                let seconds = (processor() - before).as_secs_f64() / f64::from(times);
                let work = 2.0 * 2.0 * rows as f64 * 3072.0 * 1024.0;
                println!(
                    "{name}{by} {rows:4} rows: {:7.1} GFLOP and {:6.2} GB a second of one core; {:.2} cores busy",
                    work / seconds / 1e9,
                    bytes as f64 / seconds / 1e9,
                    seconds * f64::from(times) / began.elapsed().as_secs_f64()
                );
            }
        }
    }
    Ok(())
}
