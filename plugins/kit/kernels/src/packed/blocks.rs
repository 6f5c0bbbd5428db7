//! Quantised weights of any supported block type, packed for integer products.
//!
//! [`layout`](super::layout) describes the order. Rows of x are rounded to eight bits in blocks of thirty-two, each
//! with a scale of its own, so only sums are widened: the blocks' exact values are multiplied as integers and summed
//! in fp32.
//!
//! AVX-512 and AVX-VNNI multiply four bytes at a time, AVX2 two; all give the same bits. On other processors candle
//! multiplies the blocks.

use super::layout::{BLOCK, Kind, MOST_ROWS, Some8, put, take};
use super::lines::Lines;
use super::output_block::OutputBlock;
use super::parallel_output::{Columns, by_output_blocks};
use super::{Form, Kernel, LANES, Line, Multiplies, Read, Reads, amx, avx2_bytes, together, vnni};
use crate::Result;
use crate::device::own_kernels;
use candle_core::quantized::GgmlDType;
use candle_core::{Device, Error, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::OnceLock;

pub struct Blocks {
    kind: Kind,
    outputs: usize,
    inputs: usize,
    units: usize,
    lines: Lines,
}

/// Whether blocks of this type are multiplied here, on this device.
pub fn suits(dtype: GgmlDType, device: &Device) -> bool {
    own_kernels(device) && Kind::of(dtype).is_some() && best().is_some()
}

/// The best kernel of the processor for blocks.
fn best() -> Option<Kernel> {
    static BEST: OnceLock<Option<Kernel>> = OnceLock::new();
    let choose = || match Kernel::most() {
        Kernel::Amx if amx::usable(tiles_agree) => Some(Kernel::Amx),
        Kernel::Amx | Kernel::Avx512 if vnni::has() => Some(Kernel::Avx512),
        Kernel::Amx | Kernel::Avx512 | Kernel::Avx2 if avx2_bytes::has() => Some(Kernel::Avx2),
        _ => None,
    };
    *BEST.get_or_init(choose)
}

impl Blocks {
    /// From rows of blocks as in files, read a few at a time so that not all need to be in memory.
    pub fn new<B: AsRef<[u8]>, E: From<Error> + Send>(
        dtype: GgmlDType,
        (outputs, inputs): (usize, usize),
        rows: impl Fn(Range<usize>) -> Result<B, E> + Sync,
    ) -> Result<Blocks, E> {
        let Some(kind) = Kind::of(dtype).filter(|_| inputs.is_multiple_of(dtype.block_size())) else {
            return Err(Error::Msg(format!("rows of {inputs} in blocks of {dtype:?} are not packed")).into());
        };
        let (size, of_unit) = (kind.form().lines(), kind.form().bytes());
        let units = inputs.div_ceil(kind.form().inputs());
        let of_row = inputs / dtype.block_size() * dtype.type_size();
        let mut lines = Lines::zeroed(outputs.div_ceil(LANES) * units * size)?;
        let panels = lines.par_chunks_mut((units * size).max(1)).enumerate();
        panels.try_for_each(|(panel, lines)| {
            let outputs = panel * LANES..outputs.min((panel + 1) * LANES);
            let bytes = rows(outputs.clone())?;
            let bytes = bytes.as_ref();
            if bytes.len() != outputs.len() * of_row {
                let said = format!("{} bytes of blocks for {} rows of {inputs}", bytes.len(), outputs.len());
                return Err(candle_core::Error::Msg(said).into());
            }
            for (lane, row) in bytes.chunks_exact(of_row.max(1)).enumerate() {
                for (lines, bytes) in lines.chunks_exact_mut(size).zip(row.chunks(of_unit)) {
                    put(kind, lines, lane, bytes);
                }
            }
            Ok::<_, E>(())
        })?;
        Ok(Blocks {
            kind,
            outputs,
            inputs,
            units,
            lines,
        })
    }

    /// The memory that a matrix will take: a little more than in a file, since scales have their own lines and panels
    /// are padded.
    pub fn room(dtype: GgmlDType, (outputs, inputs): (usize, usize)) -> u64 {
        let lines = Kind::of(dtype).map_or(0, |kind| {
            let form = kind.form();
            outputs.div_ceil(LANES) * inputs.div_ceil(form.inputs()) * form.lines()
        });
        lines as u64 * size_of::<Line>() as u64
    }

    fn of_panel(&self, panel: usize) -> &[Line] {
        let size = self.units * self.kind.form().lines();
        &self.lines[panel * size..(panel + 1) * size]
    }

    /// The best kernel: at least AVX2, as [`suits`] checked.
    fn best() -> Kernel {
        best().unwrap_or(Kernel::Avx2)
    }

    /// Rows that [`Rounded`] stores together and that a kernel takes at once.
    fn together(kernel: Kernel) -> usize {
        match kernel {
            Kernel::Avx2 | Kernel::Portable => avx2_bytes::ROWS,
            Kernel::Avx512 | Kernel::Amx => MOST_ROWS,
        }
    }

    /// The same bits with every kernel.
    pub(super) fn product_by(&self, kernel: Kernel, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs.max(1);
        let x = self.rounded(kernel, x);
        by_output_blocks(
            rows,
            Columns::new(self.outputs, self.width(rows), rows),
            |output_block| self.fill_by(kernel, output_block, &x),
        )
    }

    /// Whether this many rows use tiles.
    fn tiles(kernel: Kernel, rows: usize) -> bool {
        kernel == Kernel::Amx && rows > MOST_ROWS
    }

    /// Blocks in all inputs.
    fn blocks(&self) -> usize {
        self.units * self.kind.form().blocks
    }

    fn rounded(&self, kernel: Kernel, x: &[f32]) -> Rounded {
        match Blocks::tiles(kernel, x.len() / self.inputs.max(1)) {
            // An odd number of cache lines, so that rows that are read in parallel do not evict each other from the
            // first-level cache.
            true => Rounded::new(x, self.inputs, 2 * (self.blocks().div_ceil(2) | 1), 1),
            false => Rounded::new(x, self.inputs, self.blocks(), Blocks::together(kernel)),
        }
    }

    fn fill_by(&self, kernel: Kernel, output_block: &mut OutputBlock, x: &Rounded) {
        if Blocks::tiles(kernel, x.rows) {
            let of_panel = |panel| self.of_panel(panel);
            return amx::fill_quantised(self.kind, &of_panel, x.whole(), x.rows, output_block);
        }
        let together = Blocks::together(kernel);
        let make = match kernel {
            Kernel::Avx2 | Kernel::Portable => avx2_bytes::tile,
            Kernel::Avx512 | Kernel::Amx => vnni::tile,
        };
        for first in (0..x.rows).step_by(together) {
            let rows = together.min(x.rows - first);
            for column in output_block.columns().step_by(LANES) {
                let mut tile = [[0f32; LANES]; MOST_ROWS];
                let panel = self.of_panel(column / LANES);
                make(self.kind, panel, &x.block(first, rows), &mut tile[..rows]);
                for (below, tile) in tile[..rows].iter().enumerate() {
                    let values = output_block.values(first + below, column, LANES);
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
        crate::precision::block_name(self.kind.dtype())
    }

    fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.lines)
    }

    fn rows(&self, outputs: &[u32]) -> candle_core::Result<Tensor> {
        if let Some(beyond) = outputs.iter().find(|&&output| output as usize >= self.outputs) {
            candle_core::bail!("row {beyond} of a table of {}", self.outputs)
        }
        let mut values = vec![0f32; outputs.len() * self.inputs];
        let rows = values.par_chunks_mut(self.inputs.max(1)).zip(outputs);
        rows.for_each(|(values, &output)| {
            let lines = self
                .of_panel(output as usize / LANES)
                .chunks_exact(self.kind.form().lines());
            for (values, lines) in values.chunks_mut(self.kind.form().inputs()).zip(lines) {
                take(self.kind, lines, output as usize % LANES, values);
            }
        });
        Tensor::from_vec(values, (outputs.len(), self.inputs), &Device::Cpu)
    }

    fn reads(&self) -> Reads {
        Reads(Form::Bytes(self.blocks()))
    }

    fn read(&self, x: &[f32]) -> Read {
        Read::Bytes(self.rounded(Blocks::best(), x))
    }

    fn width(&self, rows: usize) -> usize {
        let panels = self.outputs.div_ceil(LANES);
        LANES * together(panels, size_of_val(self.of_panel(0)), rows, 8)
    }

    fn fill(&self, output_block: &mut OutputBlock, x: &Read) {
        if let Read::Bytes(x) = x {
            self.fill_by(Blocks::best(), output_block, x);
        }
    }
}

/// Rows of x in eight bits, in groups of rows that a kernel takes at once. In a group, each block of inputs has words
/// of four numbers row by row, and beside them for each row a scale, the sum of its numbers, and that of their first
/// half.
pub struct Rounded {
    rows: usize,
    blocks: usize,
    words: Vec<u32>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    firsts: Vec<i32>,
}

impl Rounded {
    fn new(x: &[f32], inputs: usize, blocks: usize, together: usize) -> Rounded {
        let rows = x.len() / inputs.max(1);
        let words_of_row = blocks * BLOCK / 4;
        let mut rounded = Rounded {
            rows,
            blocks,
            words: vec![0; rows * words_of_row],
            scales: vec![0.0; rows * blocks],
            sums: vec![0; rows * blocks],
            firsts: vec![0; rows * blocks],
        };
        let parts = rounded
            .words
            .par_chunks_mut((together * words_of_row).max(1))
            .zip(rounded.scales.par_chunks_mut((together * blocks).max(1)))
            .zip(rounded.sums.par_chunks_mut((together * blocks).max(1)))
            .zip(rounded.firsts.par_chunks_mut((together * blocks).max(1)))
            .zip(x.par_chunks((together * inputs).max(1)));
        let arch = Arch::new();
        parts.for_each(|((((words, scales), sums), firsts), x)| {
            let rows = x.len() / inputs;
            for (row, x) in x.chunks_exact(inputs).enumerate() {
                for (block, x) in x.chunks(BLOCK).enumerate() {
                    let mut padded = [0f32; BLOCK];
                    padded[..x.len()].copy_from_slice(x);
                    let (numbers, scale) = arch.dispatch(Round(&padded));
                    let (fours, _) = numbers.as_chunks::<4>();
                    for (four, numbers) in fours.iter().enumerate() {
                        words[(block * BLOCK / 4 + four) * rows + row] = u32::from_le_bytes(numbers.map(|n| n as u8));
                    }
                    scales[block * rows + row] = scale;
                    let sum = |numbers: &[i8]| numbers.iter().map(|&number| i32::from(number)).sum();
                    sums[block * rows + row] = sum(&numbers);
                    firsts[block * rows + row] = sum(&numbers[..BLOCK / 2]);
                }
            }
        });
        rounded
    }

    /// Rows that were taken one by one.
    fn whole(&self) -> amx::X<'_> {
        amx::X {
            words: &self.words,
            scales: &self.scales,
            sums: &self.sums,
            blocks: self.blocks,
        }
    }

    fn block(&self, first: usize, rows: usize) -> Some8<'_> {
        let (words, blocks) = (self.blocks * BLOCK / 4, self.blocks);
        Some8 {
            words: &self.words[first * words..(first + rows) * words],
            scales: &self.scales[first * blocks..(first + rows) * blocks],
            sums: &self.sums[first * blocks..(first + rows) * blocks],
            firsts: &self.firsts[first * blocks..(first + rows) * blocks],
        }
    }
}

/// Rounds a block to eight bits and a scale.
struct Round<'a>(&'a [f32; BLOCK]);

impl NullaryFnOnce for Round<'_> {
    type Output = ([i8; BLOCK], f32);

    #[inline(always)]
    fn call(self) -> Self::Output {
        // Compared as bits, since compilers vectorise integers, and so that a NaN is the largest: a NaN must show in
        // the result.
        let largest = self.0.iter().fold(0, |most: u32, x| most.max(x.abs().to_bits()));
        let scale = f32::from_bits(largest) / 127.0;
        let up = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        // After this addition the lowest bits hold the nearest integer, ties to even.
        const WHOLE: f32 = 1.5 * (1 << 23) as f32;
        let mut words = [0u32; BLOCK];
        words
            .iter_mut()
            .zip(self.0)
            .for_each(|(word, x)| *word = (x * up + WHOLE).to_bits());
        (words.map(|word| word as i8), scale)
    }
}

/// Whether tiles and AVX-512 agree on a small product.
pub(super) fn tiles_agree() -> bool {
    let (rows, inputs, outputs) = (2 * MOST_ROWS + 3, 4 * BLOCK, LANES + 3);
    let of_row = inputs / BLOCK * 34;
    // An fp16 scale, below 2 here, and 32 values.
    let byte = |at: usize| if at % 34 == 1 { 0x3a } else { (at * at % 251) as u8 };
    let weight = Blocks::new(GgmlDType::Q8_0, (outputs, inputs), |some| {
        let bytes = some.start * of_row..some.end * of_row;
        Ok::<_, Error>(bytes.map(byte).collect::<Vec<u8>>())
    });
    let x: Vec<f32> = (0..rows * inputs).map(|at| (at * at % 97) as f32 - 48.0).collect();
    weight.is_ok_and(|weight| weight.product_by(Kernel::Amx, &x) == weight.product_by(Kernel::Avx512, &x))
}

#[cfg(test)]
mod tests {
    use super::super::layout::{Scales, code, worth};
    use super::*;
    use candle_core::DType;
    use candle_core::quantized::{QStorage, QTensor};

    fn random(shape: (usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    fn rounded(x: &[f32], inputs: usize) -> Vec<f64> {
        let round = |x: &[f32]| {
            let scale = x.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            let numbers = x
                .iter()
                .map(move |x| f64::from((x * (1.0 / scale)).round_ties_even()) * f64::from(scale));
            numbers.collect::<Vec<_>>()
        };
        x.chunks(inputs)
            .flat_map(|row| row.chunks(BLOCK).flat_map(round))
            .collect()
    }

    /// The product that `Matrix` computes if blocks are packed on this machine; otherwise candle computes it.
    fn packed(blocks: &QTensor) -> Option<Blocks> {
        let dims = blocks.shape().dims2().unwrap();
        let bytes = blocks.data().unwrap();
        let of_row = bytes.len() / dims.0;
        let rows = |rows: Range<usize>| Ok::<_, Error>(&bytes[rows.start * of_row..rows.end * of_row]);
        suits(blocks.dtype(), &Device::Cpu).then(|| Blocks::new(blocks.dtype(), dims, rows).unwrap())
    }

    /// The values are the blocks' own, and products use these and rounded x.
    #[track_caller]
    fn check(dtype: GgmlDType, rows: usize, inputs: usize, outputs: usize) {
        let blocks = QTensor::quantize(&random((outputs, inputs)), dtype).unwrap();
        let Some(packed) = packed(&blocks) else { return };
        let weight = blocks.dequantize(&Device::Cpu).unwrap();
        let all: Vec<u32> = (0..outputs as u32).collect();
        let apart = (packed.rows(&all).unwrap() - &weight).unwrap().abs().unwrap();
        assert!(apart.max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6, "{dtype:?}");

        let x = random((rows, inputs)).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let got = packed.product_by(Blocks::best(), &x);
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

    const SMALL: [GgmlDType; 5] = [
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q8_0,
    ];
    const LARGE: [GgmlDType; 3] = [GgmlDType::Q4K, GgmlDType::Q5K, GgmlDType::Q6K];

    #[test]
    fn the_product_is_what_the_blocks_say() {
        for rows in [1, 2, 3, 4, 5, 6, 7, 8, 9, 21] {
            SMALL.into_iter().for_each(|dtype| check(dtype, rows, 128, 40));
            LARGE.into_iter().for_each(|dtype| check(dtype, rows, 256, 40));
        }
        for dtype in SMALL {
            check(dtype, 2, 32, 1);
            check(dtype, 3, 96, 16);
        }
        LARGE.into_iter().for_each(|dtype| check(dtype, 3, 1024, 33));
    }

    /// The largest codes and scales: nothing overflows on the way.
    #[test]
    fn bytes_of_any_kind_are_what_candle_says_of_them() {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for dtype in SMALL.into_iter().chain(LARGE) {
            let blocks = 20 * 512 / dtype.block_size();
            let mut bytes: Vec<u8> = (0..blocks * dtype.type_size()).map(|_| byte()).collect();
            // Make the fp16 numbers of a block small; all other bytes are arbitrary.
            for block in bytes.chunks_exact_mut(dtype.type_size()) {
                let halves: &[usize] = match dtype {
                    GgmlDType::Q6K => &[208],
                    GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => &[0],
                    _ => &[0, 2],
                };
                halves
                    .iter()
                    .for_each(|&at| block[at + 1] = block[at + 1] & 0x83 | 0x10);
            }
            let storage = QStorage::from_data(bytes.into(), &Device::Cpu, dtype).unwrap();
            let blocks = QTensor::new(storage, (20, 512)).unwrap();
            let Some(packed) = packed(&blocks) else { continue };
            let weight = blocks.dequantize(&Device::Cpu).unwrap();
            assert_eq!(
                packed.values().unwrap().to_vec2::<f32>().unwrap(),
                weight.to_vec2::<f32>().unwrap(),
                "{dtype:?}"
            );
            let x: Vec<f32> = (0..3 * 512).map(|at| if at % 3 == 0 { -1.0 } else { 1.0 }).collect();
            let exact = Tensor::from_vec(rounded(&x, 512), (3, 512), &Device::Cpu).unwrap();
            let expected = exact
                .matmul(&weight.to_dtype(DType::F64).unwrap().t().unwrap())
                .unwrap();
            let got = Tensor::from_vec(packed.product_by(Blocks::best(), &x), (3, 20), &Device::Cpu).unwrap();
            let apart = (got.to_dtype(DType::F64).unwrap() - &expected).unwrap().abs().unwrap();
            let most = |t: &Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
            assert!(
                most(&apart) <= 1e-5 * most(&expected),
                "{dtype:?}: off by {}",
                most(&apart)
            );
        }
    }

    /// One output of one row, number by number, in the order of all kernels.
    fn in_order(packed: &Blocks, x: &Rounded, row: usize, output: usize) -> f32 {
        let form = packed.kind.form();
        let lines = packed.of_panel(output / LANES).chunks_exact(form.lines());
        let lane = output % LANES;
        let mut total = 0f32;
        for (at, (lines, block)) in lines
            .flat_map(|unit| (0..form.blocks).map(move |block| (unit, block)))
            .enumerate()
        {
            let at = row * packed.blocks() + at;
            let words = &x.words[at * BLOCK / 4..][..BLOCK / 4];
            let zero = match form.scales {
                Scales::Centred(zero) => i32::from(zero),
                Scales::Halved => 32,
                Scales::Raised | Scales::Stepped => 0,
            };
            let product = |input: usize| {
                let x = (words[input / 4] >> (8 * (input % 4))) as i8;
                (i32::from(code(form, lines, lane, block, input)) - zero) * i32::from(x)
            };
            let sums = [0..BLOCK / 2, BLOCK / 2..BLOCK].map(|half| half.map(product).sum::<i32>());
            let (worth, added) = worth(packed.kind, lines, lane, block);
            let scale = x.scales[at];
            if form.scales == Scales::Halved {
                let sum = (sums[1] as f32).mul_add(worth[1], sums[0] as f32 * worth[0]);
                total = sum.mul_add(scale, total);
                continue;
            }
            total = ((sums[0] + sums[1]) as f32 * scale).mul_add(worth[0], total);
            if matches!(form.scales, Scales::Stepped | Scales::Raised) {
                total = (x.sums[at] as f32 * scale).mul_add(added, total);
            }
        }
        total
    }

    /// A class of kernels must give the same numbers on every processor.
    #[test]
    fn every_kernel_adds_up_in_one_order() {
        for dtype in SMALL.into_iter().chain(LARGE) {
            let blocks = QTensor::quantize(&random((37, 512)), dtype).unwrap();
            let Some(packed) = packed(&blocks) else { return };
            let x = random((9, 512)).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let rounded = Rounded::new(&x, 512, packed.blocks(), 1);
            let expected = (0..9).flat_map(|row| (0..37).map(move |output| (row, output)));
            let expected: Vec<f32> = expected
                .map(|(row, output)| in_order(&packed, &rounded, row, output))
                .collect();
            let known = [(Kernel::Avx2, avx2_bytes::has()), (Kernel::Avx512, vnni::has())];
            for (kernel, _) in known.into_iter().filter(|(_, has)| *has) {
                for rows in [9, 1] {
                    let got = packed.product_by(kernel, &x[..rows * 512]);
                    assert_eq!(got, expected[..rows * 37], "{kernel:?} {dtype:?}, {rows} rows");
                }
            }
        }
    }

    #[test]
    fn rows_of_zeros_and_of_no_numbers_are_told_apart() {
        let blocks = QTensor::quantize(&random((20, 64)), GgmlDType::Q8_0).unwrap();
        if let Some(packed) = packed(&blocks) {
            let mut x = vec![0f32; 128];
            x[64] = f32::NAN;
            let y = packed.product_by(Blocks::best(), &x);
            assert!(y[..20].iter().all(|y| *y == 0.0) && y[20..].iter().all(|y| y.is_nan()));
        }
    }

    #[test]
    fn rows_that_cannot_be_read_are_an_error() {
        let broken = |_| Err::<Vec<u8>, _>(Error::Msg("cut".to_owned()));
        assert!(Blocks::new(GgmlDType::Q8_0, (40, 64), broken).is_err());
        assert!(Blocks::new(GgmlDType::Q4K, (40, 64), |_| Ok::<_, Error>(Vec::new())).is_err());
    }
}
