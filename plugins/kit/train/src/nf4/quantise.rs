//! Quantises values to codes and scales to bytes.

use super::{bounds, bytes_table, nearest_byte};
use checkpoint::nf4::{BLOCK, CODES, NESTED, Nf4, Scales};
use rayon::prelude::*;

/// Quantises values, which `read(start, out)` reads in parts.
pub(crate) fn quantise(values: usize, double: bool, read: impl Fn(usize, &mut [f32]) + Sync) -> Nf4 {
    const TASK: usize = 256 * BLOCK;
    let mut bytes = vec![0u8; values.div_ceil(2)];
    let mut scales = vec![0f32; values.div_ceil(BLOCK)];
    let parts = bytes
        .par_chunks_mut(TASK / 2)
        .zip(scales.par_chunks_mut(TASK / BLOCK))
        .enumerate();
    parts.for_each(|(number, (bytes, scales))| {
        let start = number * TASK;
        let mut wide = vec![0.0; TASK.min(values - start)];
        read(start, &mut wide);
        for ((block, bytes), scale) in wide.chunks(BLOCK).zip(bytes.chunks_mut(BLOCK / 2)).zip(scales) {
            *scale = codes_of(block, bytes);
        }
    });
    Nf4 {
        bytes,
        scales: match double {
            true => doubly(&scales),
            false => Scales::Plain(scales),
        },
    }
}

/// Writes the codes of a block and returns its scale.
fn codes_of(block: &[f32], bytes: &mut [u8]) -> f32 {
    let largest = block.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let inverse = 1.0 / largest.max(1e-38);
    let bounds: [f32; 15] = std::array::from_fn(|n| (CODES[n] + CODES[n + 1]) / 2.0);
    let code = |x: f32| -> u8 {
        let x = (x * inverse).clamp(-1.0, 1.0);
        bounds.iter().map(|bound| u8::from(*bound < x)).sum()
    };
    for (byte, pair) in bytes.iter_mut().zip(block.chunks(2)) {
        *byte = code(pair[0]) << 4 | pair.get(1).map_or(0, |&x| code(x));
    }
    largest
}

/// Quantises scales to bytes.
fn doubly(scales: &[f32]) -> Scales {
    let sum: f64 = scales.iter().map(|&scale| f64::from(scale)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let table = bytes_table(true);
    let bounds = bounds(table);
    let (mut codes, mut absmax) = (Vec::with_capacity(scales.len()), Vec::new());
    for block in scales.chunks(NESTED) {
        let largest = block.iter().fold(0f32, |largest, x| largest.max((x - offset).abs()));
        let inverse = 1.0 / largest.max(1e-38);
        let code = |x: &f32| nearest_byte(((x - offset) * inverse).clamp(-1.0, 1.0), &bounds);
        codes.extend(block.iter().map(code));
        absmax.push(largest);
    }
    Scales::Double {
        codes,
        absmax,
        offset,
        table: Box::new(*table),
    }
}
