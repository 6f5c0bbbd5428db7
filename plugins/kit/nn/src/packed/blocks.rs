//! Quantised weights, packed for products of whole numbers: q8_0 and q4_k.
//!
//! Sixteen outputs lie together as a panel, and of them the four inputs that one instruction takes. Rows of x are
//! rounded to eight bits by the thirty-two, each with a scale of its own, so nothing is ever widened but sums: exactly
//! what the blocks say, multiplied in whole numbers and added up in fp32.
//!
//! Only for processors that have the instruction; elsewhere candle multiplies the blocks as they are.

use super::stripes::{Stripe, by_stripes};
use super::{Kernel, LANES, Line, Multiplies, vnni};
use crate::device::own_kernels;
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};
use half::f16;
use rayon::prelude::*;
use std::sync::OnceLock;

/// Inputs that share a scale of x.
pub(super) const BLOCK: usize = 32;
/// Rows that a tile has at most.
pub(super) const MOST_ROWS: usize = 8;

/// What the weights are, and how a unit of them lies in lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 64 inputs: a line of scales (fp16, 16 for each block), then eight lines a block, each value 128 above its own.
    Q8_0,
    /// 256 inputs: a line of scales and one of minima's scales (fp16, 16 each), four lines with the 6-bit scales and
    /// minima (bytes, 16 each) of two blocks, then four lines a block, whose upper halves are four steps on.
    Q4K,
}

impl Kind {
    pub fn inputs(self) -> usize {
        match self {
            Kind::Q8_0 => 64,
            Kind::Q4K => 256,
        }
    }

    pub fn lines(self) -> usize {
        match self {
            Kind::Q8_0 => 17,
            Kind::Q4K => 37,
        }
    }
}

pub(crate) struct Blocks {
    kind: Kind,
    outputs: usize,
    inputs: usize,
    units: usize,
    lines: Vec<Line>,
}

/// Whether blocks of this type are multiplied here.
pub(crate) fn suits(blocks: &QTensor) -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    let known = matches!(blocks.dtype(), GgmlDType::Q8_0 | GgmlDType::Q4K);
    known && own_kernels(&blocks.device()) && *HAS.get_or_init(|| Kernel::most() > Kernel::Portable && vnni::has())
}

impl Line {
    fn set_byte(&mut self, place: usize, byte: u8) {
        let shift = 8 * (place % 4);
        self.0[place / 4] = self.0[place / 4] & !(0xff << shift) | u32::from(byte) << shift;
    }

    fn byte(&self, place: usize) -> u8 {
        (self.0[place / 4] >> (8 * (place % 4))) as u8
    }

    fn set_half(&mut self, place: usize, bytes: [u8; 2]) {
        self.set_byte(2 * place, bytes[0]);
        self.set_byte(2 * place + 1, bytes[1]);
    }

    fn half(&self, place: usize) -> f32 {
        f16::from_le_bytes([self.byte(2 * place), self.byte(2 * place + 1)]).to_f32()
    }
}

/// The bytes of a unit of one output, put into its lines. `lane` is the output's place in the panel.
fn put(kind: Kind, lines: &mut [Line], lane: usize, bytes: &[u8]) {
    match kind {
        Kind::Q8_0 => {
            for (block, bytes) in bytes.chunks_exact(34).enumerate() {
                lines[0].set_half(block * LANES + lane, [bytes[0], bytes[1]]);
                for (input, byte) in bytes[2..].iter().enumerate() {
                    lines[1 + 8 * block + input / 4].set_byte(4 * lane + input % 4, byte ^ 0x80);
                }
            }
        }
        Kind::Q4K => {
            lines[0].set_half(lane, [bytes[0], bytes[1]]);
            lines[0].set_half(LANES + lane, [bytes[2], bytes[3]]);
            let packed = &bytes[4..16];
            for block in 0..8 {
                // Six bits each: of the last four blocks, the upper two lie above those of the first four.
                let (scale, min) = match block {
                    0..4 => (packed[block] & 63, packed[block + 4] & 63),
                    _ => (
                        packed[block + 4] & 15 | packed[block - 4] >> 6 << 4,
                        packed[block + 4] >> 4 | packed[block] >> 6 << 4,
                    ),
                };
                let line = &mut lines[1 + block / 2];
                line.set_byte(32 * (block % 2) + lane, scale);
                line.set_byte(32 * (block % 2) + LANES + lane, min);
                let nibble = |input: usize| bytes[16 + block / 2 * 32 + input] >> (4 * (block % 2)) & 15;
                for input in 0..BLOCK / 2 {
                    let both = nibble(input) | nibble(input + BLOCK / 2) << 4;
                    lines[5 + 4 * block + input / 4].set_byte(4 * lane + input % 4, both);
                }
            }
        }
    }
}

/// The values of a unit of one output.
fn take(kind: Kind, lines: &[Line], lane: usize, values: &mut [f32]) {
    for (input, value) in values.iter_mut().enumerate() {
        let (block, input) = (input / BLOCK, input % BLOCK);
        *value = match kind {
            Kind::Q8_0 => {
                let byte = lines[1 + 8 * block + input / 4].byte(4 * lane + input % 4);
                lines[0].half(block * LANES + lane) * (f32::from(byte) - 128.0)
            }
            Kind::Q4K => {
                let half = BLOCK / 2;
                let both = lines[5 + 4 * block + input % half / 4].byte(4 * lane + input % 4);
                let nibble = if input < half { both & 15 } else { both >> 4 };
                let line = &lines[1 + block / 2];
                let part = |place| f32::from(line.byte(32 * (block % 2) + place + lane));
                lines[0].half(lane) * part(0) * f32::from(nibble) - lines[0].half(LANES + lane) * part(LANES)
            }
        };
    }
}

impl Blocks {
    pub fn new(blocks: &QTensor) -> Result<Blocks> {
        let (outputs, inputs) = blocks.shape().dims2()?;
        let (kind, size) = match blocks.dtype() {
            GgmlDType::Q8_0 => (Kind::Q8_0, 34 * 2),
            GgmlDType::Q4K => (Kind::Q4K, 144),
            other => candle_core::bail!("blocks of {other:?} are not packed"),
        };
        let units = inputs.div_ceil(kind.inputs());
        let bytes = blocks.data()?;
        let of_row = bytes.len() / outputs.max(1);
        let mut lines = vec![Line([0; LANES]); outputs.div_ceil(LANES) * units * kind.lines()];
        let panels = lines.par_chunks_mut((units * kind.lines()).max(1)).enumerate();
        panels.for_each(|(panel, lines)| {
            for output in panel * LANES..outputs.min((panel + 1) * LANES) {
                let row = &bytes[output * of_row..(output + 1) * of_row];
                for (lines, bytes) in lines.chunks_exact_mut(kind.lines()).zip(row.chunks(size)) {
                    put(kind, lines, output % LANES, bytes);
                }
            }
        });
        Ok(Blocks {
            kind,
            outputs,
            inputs,
            units,
            lines,
        })
    }

    fn of_panel(&self, panel: usize) -> &[Line] {
        let size = self.units * self.kind.lines();
        &self.lines[panel * size..(panel + 1) * size]
    }

    fn fill(&self, mut stripe: Stripe, x: &Rounded) {
        for first in (0..x.rows).step_by(MOST_ROWS) {
            let rows = MOST_ROWS.min(x.rows - first);
            for column in stripe.columns().step_by(LANES) {
                let mut tile = [[0f32; LANES]; MOST_ROWS];
                vnni::tile(
                    self.kind,
                    self.of_panel(column / LANES),
                    &x.block(first, rows),
                    &mut tile[..rows],
                );
                for (below, tile) in tile[..rows].iter().enumerate() {
                    let values = stripe.values(first + below, column, LANES);
                    values.copy_from_slice(&tile[..values.len()]);
                }
            }
        }
    }
}

impl Multiplies for Blocks {
    fn dims(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    fn stored_as(&self) -> &'static str {
        match self.kind {
            Kind::Q8_0 => "q8_0",
            Kind::Q4K => "q4_k",
        }
    }

    fn bytes(&self) -> usize {
        std::mem::size_of_val(self.lines.as_slice())
    }

    fn rows(&self, outputs: &[u32]) -> Result<Tensor> {
        if let Some(beyond) = outputs.iter().find(|&&output| output as usize >= self.outputs) {
            candle_core::bail!("row {beyond} of a table of {}", self.outputs)
        }
        let mut values = vec![0f32; outputs.len() * self.inputs];
        let rows = values.par_chunks_mut(self.inputs.max(1)).zip(outputs);
        rows.for_each(|(values, &output)| {
            let lines = self.of_panel(output as usize / LANES).chunks_exact(self.kind.lines());
            for (values, lines) in values.chunks_mut(self.kind.inputs()).zip(lines) {
                take(self.kind, lines, output as usize % LANES, values);
            }
        });
        Tensor::from_vec(values, (outputs.len(), self.inputs), &Device::Cpu)
    }

    fn product(&self, x: &[f32]) -> Vec<f32> {
        let x = Rounded::new(x, self.inputs, self.units * self.kind.inputs() / BLOCK);
        let panels = self.outputs.div_ceil(LANES);
        let together = (panels / (4 * rayon::current_num_threads())).clamp(1, 8);
        by_stripes(x.rows, self.outputs, together * LANES, |stripe| self.fill(stripe, &x))
    }
}

/// Rows of x in eight bits. They lie in blocks of rows that a tile takes, and there, of each block of inputs, the words
/// of four numbers row by row; beside them a scale for each block and row, and the sum of its numbers.
struct Rounded {
    rows: usize,
    blocks: usize,
    words: Vec<u32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

/// What a tile reads of x.
pub(super) struct Some8<'a> {
    pub words: &'a [u32],
    pub scales: &'a [f32],
    pub sums: &'a [i32],
}

impl Rounded {
    fn new(x: &[f32], inputs: usize, blocks: usize) -> Rounded {
        let rows = x.len() / inputs.max(1);
        let words_of_row = blocks * BLOCK / 4;
        let mut rounded = Rounded {
            rows,
            blocks,
            words: vec![0; rows * words_of_row],
            scales: vec![0.0; rows * blocks],
            sums: vec![0; rows * blocks],
        };
        let parts = rounded
            .words
            .par_chunks_mut((MOST_ROWS * words_of_row).max(1))
            .zip(rounded.scales.par_chunks_mut((MOST_ROWS * blocks).max(1)))
            .zip(rounded.sums.par_chunks_mut((MOST_ROWS * blocks).max(1)))
            .zip(x.par_chunks((MOST_ROWS * inputs).max(1)));
        parts.for_each(|(((words, scales), sums), x)| {
            let rows = x.len() / inputs;
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                for (block, x) in x.chunks(BLOCK).enumerate() {
                    let largest = x
                        .iter()
                        .fold(0f32, |most, x| if x.abs() > most { x.abs() } else { most });
                    // A number that is none has to be seen in what comes of it.
                    let broken = x.iter().any(|x| x.is_nan());
                    let scale = largest / 127.0;
                    let up = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                    let mut numbers = [0i8; BLOCK];
                    numbers
                        .iter_mut()
                        .zip(x)
                        .for_each(|(number, x)| *number = (x * up).round() as i8);
                    let (fours, _) = numbers.as_chunks::<4>();
                    for (four, numbers) in fours.iter().enumerate() {
                        words[(block * BLOCK / 4 + four) * rows + row] = u32::from_le_bytes(numbers.map(|n| n as u8));
                    }
                    scales[block * rows + row] = if broken { f32::NAN } else { scale };
                    sums[block * rows + row] = numbers.iter().map(|&number| i32::from(number)).sum();
                }
            }
        });
        rounded
    }

    fn block(&self, first: usize, rows: usize) -> Some8<'_> {
        let (words, blocks) = (self.blocks * BLOCK / 4, self.blocks);
        Some8 {
            words: &self.words[first * words..(first + rows) * words],
            scales: &self.scales[first * blocks..(first + rows) * blocks],
            sums: &self.sums[first * blocks..(first + rows) * blocks],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: (usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    fn rounded(x: &[f32], inputs: usize) -> Vec<f64> {
        let round = |x: &[f32]| {
            let scale = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            let numbers = x
                .iter()
                .map(move |x| f64::from((x * (1.0 / scale)).round()) * f64::from(scale));
            numbers.collect::<Vec<_>>()
        };
        x.chunks(inputs)
            .flat_map(|row| row.chunks(BLOCK).flat_map(round))
            .collect()
    }

    /// The values are the blocks' own, and products those of them with what x is rounded to.
    #[track_caller]
    fn check(dtype: GgmlDType, rows: usize, inputs: usize, outputs: usize) {
        let blocks = QTensor::quantize(&random((outputs, inputs)), dtype).unwrap();
        if !suits(&blocks) {
            return; // candle's own product is used, and tested by `Matrix`
        }
        let packed = Blocks::new(&blocks).unwrap();
        let weight = blocks.dequantize(&Device::Cpu).unwrap();
        let all: Vec<u32> = (0..outputs as u32).collect();
        let apart = (packed.rows(&all).unwrap() - &weight).unwrap().abs().unwrap();
        assert!(apart.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);

        let x = random((rows, inputs)).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let got = packed.product(&x);
        let (x, weight) = (rounded(&x, inputs), weight.to_vec2::<f32>().unwrap());
        for (row, x) in x.chunks(inputs).enumerate() {
            for (output, weight) in weight.iter().enumerate() {
                let expected: f64 = x.iter().zip(weight).map(|(x, w)| x * f64::from(*w)).sum();
                let apart = (f64::from(got[row * outputs + output]) - expected).abs();
                assert!(
                    apart < 2e-6 * inputs as f64,
                    "{dtype:?} {rows} x {inputs} x {outputs}: {row} {output} off by {apart}"
                );
            }
        }
    }

    #[test]
    fn the_product_is_what_the_blocks_say() {
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 21] {
            check(GgmlDType::Q8_0, rows, 128, 40);
            check(GgmlDType::Q4K, rows, 256, 40);
        }
        check(GgmlDType::Q8_0, 2, 32, 1);
        check(GgmlDType::Q8_0, 3, 96, 16);
        check(GgmlDType::Q4K, 3, 1024, 33);
    }

    #[test]
    fn rows_of_zeros_and_of_no_numbers_are_told_apart() {
        let blocks = QTensor::quantize(&random((20, 64)), GgmlDType::Q8_0).unwrap();
        if suits(&blocks) {
            let mut x = vec![0f32; 128];
            x[64] = f32::NAN;
            let y = Blocks::new(&blocks).unwrap().product(&x);
            assert!(y[..20].iter().all(|y| *y == 0.0) && y[20..].iter().all(|y| y.is_nan()));
        }
    }
}
