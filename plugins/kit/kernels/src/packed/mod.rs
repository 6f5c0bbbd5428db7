//! Weights that are packed once for products, in fp32 or bf16.
//!
//! Thirty-two outputs form a panel; in it, one input (fp32) or two (bf16) form a group, so that the data of one step
//! of the product are adjacent. The same memory serves a long prompt, whose rows share each panel while it is in the
//! cache, and a single row, which reads all weights once in order. There is no other copy.
//!
//! If the weights are bf16, rows of x are rounded to bf16 on every machine: products are then exact and sums fp32, so
//! kernels differ only in the order of sums. The kernel is chosen at run time.

#[cfg_attr(not(target_arch = "x86_64"), allow(unused))] // on other processors, these modules hold their types only
mod amx;
pub mod attention;
#[cfg_attr(not(target_arch = "x86_64"), allow(unused))] // on other processors, these modules hold their types only
mod avx2;
mod avx2_bytes;
#[cfg_attr(not(target_arch = "x86_64"), allow(unused))] // on other processors, these modules hold their types only
mod avx512;
mod blocks;
mod choice;
mod layout;
mod lines;
mod output_block;
mod parallel_output;
pub mod passing;
mod portable;
mod rounding;
mod rows;
mod vnni;

use blocks::Rounded;
pub use blocks::{Blocks, suits as suits_blocks};
pub use choice::kernel_class;
use choice::{Kernel, Kind};

use crate::Result;
use crate::device::own_kernels;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Tensor};
use half::bf16;
use lines::{Line, Lines};
use output_block::OutputBlock;
pub use output_block::{Finish, Place};
use parallel_output::{Columns, by_matrices, by_output_blocks};
pub use parallel_output::{by_parts, by_rows};
use rayon::prelude::*;
pub use rows::MakeRow;
use rows::Rows;
use std::ops::Range;
use std::sync::Arc;

/// Outputs of a panel: two of the widest registers.
const PANEL: usize = 32;
const LANES: usize = 16;
/// Rows that the widest kernel keeps in registers.
const MOST_ROWS: usize = 12;
/// Groups that are computed at a time: so many that a panel's leave room in the second-level cache, and x's in the
/// first.
const GROUPS: usize = 512;
/// Tasks for each core, and the fewest rows for which reading an output block's weights pays.
const TASKS: usize = 16;
const LEAST_ROWS: usize = 192;
/// Panels of an output block.
const PANELS: usize = 4;
/// Lines of an output block's panels that stay in the second-level cache while all rows pass.
const STAYING: usize = 1 << 13;

/// Packed weights (out, in), which are multiplied here.
pub trait Multiplies: Send + Sync {
    fn dims(&self) -> (usize, usize);

    /// The stored type, as settings spell it.
    fn stored_as(&self) -> &'static str;

    fn bytes(&self) -> usize;

    /// The weights of some outputs, one after the other, as fp32.
    fn rows(&self, outputs: &[u32]) -> Result<Tensor>;

    /// The form of x that kernels read. Weights with the same form can share it.
    fn reads(&self) -> Reads;

    /// x (rows, in), rows one after the other, in the form that kernels read.
    fn read(&self, x: &[f32]) -> Read;

    /// Outputs that are computed at a time for this many rows.
    fn width(&self, rows: usize) -> usize;

    /// Rows that are computed at a time, of this many.
    fn height(&self, rows: usize) -> usize {
        rows
    }

    /// Computes the outputs of an output block.
    fn fill(&self, output_block: &mut OutputBlock, x: &Read);

    /// All weights, as fp32.
    fn values(&self) -> Result<Tensor> {
        self.rows(&(0..self.dims().0 as u32).collect::<Vec<_>>())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads(Form);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Words(Kind),
    /// Blocks of bytes, this many.
    Bytes(usize),
}

/// Rows of x in the form that kernels read.
pub enum Read {
    Words(Rows),
    Bytes(Rounded),
}

/// Products of x (rows, in) with each of these weights, as (rows, out).
///
/// Together they convert x once and keep all cores busy until the common end, which matters for the time of one new
/// token.
pub fn products(weights: &[&dyn Multiplies], x: &[f32]) -> Vec<Vec<f32>> {
    let Some(first) = weights.first() else {
        return Vec::new();
    };
    match shared(weights) {
        Some(_) => products_of_read(weights, &first.read(x), x.len() / first.dims().1.max(1), None),
        None => weights.iter().flat_map(|one| products(&[*one], x)).collect(),
    }
}

/// The form of x, if it is the same for all of these weights.
pub fn shared(weights: &[&dyn Multiplies]) -> Option<Reads> {
    let asks = |weights: &&dyn Multiplies| (weights.dims().1, weights.reads());
    let first = weights.first()?;
    weights
        .iter()
        .all(|other| asks(other) == asks(first))
        .then(|| first.reads())
}

/// Like `products`, on an already packed `x`, with an optional epilogue.
pub fn products_of_read(weights: &[&dyn Multiplies], x: &Read, rows: usize, finish: Option<&Finish>) -> Vec<Vec<f32>> {
    let columns = |one: &&dyn Multiplies| Columns::new(one.dims().0, one.width(rows), one.height(rows));
    let matrices: Vec<Columns> = weights.iter().map(columns).collect();
    by_matrices(rows, &matrices, finish, |number, output_block| {
        weights[number].fill(output_block, x)
    })
}

/// Computes rows in the form that kernels read, if that is words.
pub fn read_made(Reads(form): Reads, rows: usize, inputs: usize, make: &MakeRow) -> Option<Read> {
    match form {
        Form::Words(kind) => Some(Read::Words(Rows::made(kind, rows, inputs, make))),
        Form::Bytes(_) => None,
    }
}

/// A product with its epilogue in the form that the next one's kernels read, if that is words.
pub fn product_to_read(
    weight: &dyn Multiplies,
    x: &Read,
    rows: usize,
    finish: Option<&Finish>,
    Reads(form): Reads,
) -> Option<Read> {
    let Form::Words(kind) = form else {
        return None;
    };
    let columns = Columns::new(weight.dims().0, weight.width(rows), weight.height(rows));
    let work = |output_block: &mut OutputBlock| weight.fill(output_block, x);
    Some(Read::Words(Rows::of_product(kind, rows, columns, finish, work)))
}

/// How many panels of this many bytes are computed at a time: few enough that cores finish at about the same time. A
/// few rows are done quickly; many rows share what is read, which favours wider tasks.
fn together(panels: usize, bytes: usize, rows: usize, most: usize) -> usize {
    /// What memory delivers in some microseconds.
    const BYTES: usize = 1 << 16;
    let of_threads = panels / (4 * rayon::current_num_threads());
    match rows <= MOST_ROWS {
        true => of_threads.min(BYTES / bytes.max(1)).clamp(1, most),
        false => of_threads.clamp(1, most),
    }
}

/// Weights (out, in) in panels.
pub struct Packed {
    kind: Kind,
    outputs: usize,
    inputs: usize,
    /// Two lines for each group, panel by panel; past the last output or input they are zero.
    lines: Lines,
}

/// Whether these are packed: always on a CPU, since candle's order of sums depends on the number of rows.
pub fn suits(weight: &Tensor) -> bool {
    let fixed = weight.dtype() == DType::BF16 || !weight.track_op();
    suits_type(weight.dtype(), weight.device()) && fixed
}

/// The same for weights of this type that are not trained.
pub fn suits_type(dtype: DType, device: &Device) -> bool {
    matches!(dtype, DType::F32 | DType::BF16) && own_kernels(device)
}

impl Packed {
    /// From values in main memory, fp32 or bf16.
    pub fn new(weight: &Tensor) -> Result<Packed> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.contiguous()?;
        let (storage, layout) = weight.storage_and_layout();
        let candle_core::Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("weights are packed in main memory")
        };
        let start = layout.start_offset();
        let range = start..start + outputs * inputs;
        match storage {
            CpuStorage::F32(values) => {
                Packed::pack(Kind::F32, outputs, inputs, |at| values[range.start + at].to_bits())
            }
            CpuStorage::BF16(values) => {
                let values = &values[range];
                Packed::pack(Kind::Bf16, outputs, inputs, |at| u32::from(values[at].to_bits()))
            }
            _ => candle_core::bail!("only fp32 and bf16 are packed, not {:?}", weight.dtype()),
        }
    }

    /// From a reader of fp32 rows, so that the whole matrix is never in memory as fp32; packed as fp32 or bf16.
    pub fn from_rows<E: Send + From<candle_core::Error>>(
        dtype: DType,
        (outputs, inputs): (usize, usize),
        rows: &(dyn Fn(Range<usize>) -> Result<Vec<f32>, E> + Sync),
    ) -> Result<Packed, E> {
        let kind = if dtype == DType::BF16 { Kind::Bf16 } else { Kind::F32 };
        Packed::by_panel(kind, outputs, inputs, |some, lines| {
            put(lines, kind, inputs, &rows(some)?);
            Ok(())
        })
    }

    fn pack(kind: Kind, outputs: usize, inputs: usize, bits: impl Fn(usize) -> u32 + Sync) -> Result<Packed> {
        let value = |at| match kind {
            Kind::F32 => f32::from_bits(bits(at)),
            Kind::Bf16 => f32::from_bits(bits(at) << 16),
        };
        Packed::by_panel(kind, outputs, inputs, |some, lines| {
            let values: Vec<f32> = (some.start * inputs..some.end * inputs).map(value).collect();
            put(lines, kind, inputs, &values);
            Ok(())
        })
    }

    /// Reads the rows of each panel.
    fn by_panel<E: Send + From<candle_core::Error>>(
        kind: Kind,
        outputs: usize,
        inputs: usize,
        panel: impl Fn(Range<usize>, &mut [Line]) -> std::result::Result<(), E> + Sync,
    ) -> std::result::Result<Packed, E> {
        let groups = inputs.div_ceil(kind.inputs());
        let mut lines = Lines::zeroed(outputs.div_ceil(PANEL) * groups * 2)?;
        let panels = lines.par_chunks_mut((groups * 2).max(1)).enumerate();
        panels.try_for_each(|(number, lines)| panel(number * PANEL..outputs.min((number + 1) * PANEL), lines))?;
        Ok(Packed {
            kind,
            outputs,
            inputs,
            lines,
        })
    }

    fn groups(&self) -> usize {
        self.inputs.div_ceil(self.kind.inputs())
    }

    /// x (rows, in) to (rows, out).
    fn product_by(&self, kernel: Kernel, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs.max(1);
        let x = Rows::new(x, self.inputs, self.kind);
        let columns = Columns::new(self.outputs, self.width(rows), self.height_by(kernel, rows));
        by_output_blocks(rows, columns, |output_block| self.fill_by(kernel, output_block, &x))
    }

    /// A few tasks for each core, so that cores finish at about the same time.
    fn height_by(&self, kernel: Kernel, rows: usize) -> usize {
        if kernel == Kernel::Amx || rows <= kernel.rows(self.kind) {
            return rows;
        }
        let output_blocks = self.outputs.div_ceil(self.width(rows));
        let parts = (TASKS * rayon::current_num_threads()).div_ceil(output_blocks);
        rows.div_ceil(parts)
            .max(LEAST_ROWS)
            .next_multiple_of(kernel.rows(self.kind))
    }

    /// Two lines for each group.
    fn panel(&self, number: usize) -> &[Line] {
        let lines = 2 * self.groups();
        &self.lines[number * lines..(number + 1) * lines]
    }

    fn fill_by(&self, kernel: Kernel, output_block: &mut OutputBlock, x: &Rows) {
        if kernel == Kernel::Amx && x.count() > amx::FEW {
            return amx::fill(self, x, output_block);
        }
        match x.count() <= kernel.rows(self.kind) {
            true => self.fill_few(kernel, output_block, x),
            false => self.fill_many(kernel, output_block, x),
        }
    }

    /// All rows at once, so nothing is read twice, in order, since memory is fastest then.
    fn fill_few(&self, kernel: Kernel, output_block: &mut OutputBlock, x: &Rows) {
        let groups = self.groups();
        for column in output_block.columns().step_by(PANEL) {
            for first in (0..groups).step_by(kernel.groups()) {
                let some = first..groups.min(first.saturating_add(kernel.groups()));
                let x = x.some(0, kernel.rows(self.kind), first);
                let lines = &self.panel(column / PANEL)[2 * some.start..2 * some.end];
                let mut tile = [[0f32; PANEL]; MOST_ROWS];
                let tile = &mut tile[..x.count];
                kernel.tile(x, lines, tile);
                for (row, tile) in tile.iter().enumerate() {
                    let values = output_block.values(row, column, PANEL).iter_mut().zip(tile);
                    match first {
                        0 => values.for_each(|(value, begin)| *value = *begin),
                        _ => values.for_each(|(value, add)| *value += add),
                    }
                }
            }
        }
    }

    /// Some rows at a time. Their sums stay in the first-level cache for as many inputs as the output block's panels
    /// have in the second-level one, so most products access memory once.
    fn fill_many(&self, kernel: Kernel, output_block: &mut OutputBlock, x: &Rows) {
        let groups = self.groups();
        let rows = output_block.rows();
        // Made once, since clearing them for each tile takes a twentieth of the time.
        let mut sums = [[[0f32; PANEL]; MOST_ROWS]; PANELS];
        let mut tile = [[0f32; PANEL]; MOST_ROWS];
        let mut line = [0f32; PANELS * PANEL];
        for column in output_block.columns().step_by(PANELS * PANEL) {
            let width = (PANELS * PANEL).min(output_block.columns().end - column);
            let panels = column / PANEL..(column + width).div_ceil(PANEL);
            let span = kernel.groups().max(STAYING / (2 * panels.len()) / GROUPS * GROUPS);
            for start in (0..groups).step_by(span) {
                let span = start..groups.min(start.saturating_add(span));
                for some in evenly(rows.clone(), kernel.rows(self.kind)) {
                    let (row, count) = (some.start, some.len());
                    if start > 0 {
                        for below in 0..count {
                            let values = output_block.values(row + below, column, width).chunks(PANEL);
                            let sums = sums.iter_mut().map(|sums| &mut sums[below]);
                            sums.zip(values)
                                .for_each(|(sums, values)| sums[..values.len()].copy_from_slice(values));
                        }
                    }
                    for first in span.clone().step_by(kernel.groups()) {
                        let some = first..span.end.min(first.saturating_add(kernel.groups()));
                        let x = x.some(row, count, first);
                        for (panel, sums) in panels.clone().zip(&mut sums) {
                            let lines = &self.panel(panel)[2 * some.start..2 * some.end];
                            if first == 0 {
                                kernel.tile(x, lines, &mut sums[..count]);
                                continue;
                            }
                            kernel.tile(x, lines, &mut tile[..count]);
                            for (sums, tile) in sums.iter_mut().zip(&tile[..count]) {
                                sums.iter_mut().zip(tile).for_each(|(sum, add)| *sum += add);
                            }
                        }
                    }
                    for below in 0..count {
                        let places = line.as_chunks_mut::<PANEL>().0.iter_mut().zip(&sums);
                        places.for_each(|(place, sums)| *place = sums[below]);
                        match span.end == groups && output_block.columns().len() == width {
                            true => output_block.end(&mut line[..width]),
                            false => output_block
                                .values(row + below, column, width)
                                .copy_from_slice(&line[..width]),
                        }
                    }
                }
            }
        }
    }
}

/// Cuts rows into as few parts of at most this many as there can be, all of about the same size: a part of one or two
/// rows takes almost as long as a full one.
fn evenly(rows: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let (first, count) = (rows.start, rows.len());
    let parts = count.div_ceil(most);
    (0..parts).map(move |part| first + count * part / parts..first + count * (part + 1) / parts)
}

/// Writes rows of a panel to its lines.
fn put(lines: &mut [Line], kind: Kind, inputs: usize, values: &[f32]) {
    for (row, values) in values.chunks_exact(inputs.max(1)).enumerate() {
        let words = lines[row / LANES..]
            .iter_mut()
            .step_by(2)
            .map(|line| &mut line.0[row % LANES]);
        match kind {
            Kind::F32 => words.zip(values).for_each(|(word, value)| *word = value.to_bits()),
            Kind::Bf16 => words.zip(values.chunks(2)).for_each(|(word, pair)| {
                let bits = |value: Option<&f32>| value.map_or(0, |&value| u32::from(bf16::from_f32(value).to_bits()));
                *word = bits(pair.first()) | bits(pair.get(1)) << 16;
            }),
        }
    }
}

impl Multiplies for Packed {
    fn dims(&self) -> (usize, usize) {
        (self.outputs, self.inputs)
    }

    fn stored_as(&self) -> &'static str {
        match self.kind {
            Kind::F32 => "fp32",
            Kind::Bf16 => "bf16",
        }
    }

    fn bytes(&self) -> usize {
        std::mem::size_of_val(&*self.lines)
    }

    fn rows(&self, outputs: &[u32]) -> Result<Tensor> {
        if let Some(beyond) = outputs.iter().find(|&&output| output as usize >= self.outputs) {
            candle_core::bail!("row {beyond} of a table of {}", self.outputs)
        }
        let mut values = vec![0f32; outputs.len() * self.inputs];
        let rows = values.par_chunks_mut(self.inputs.max(1)).zip(outputs);
        rows.for_each(|(values, &output)| {
            let (panel, row) = (output as usize / PANEL, output as usize % PANEL);
            let lines = self.panel(panel).chunks_exact(2);
            for (values, lines) in values.chunks_mut(self.kind.inputs()).zip(lines) {
                let word = lines[row / LANES].0[row % LANES];
                match self.kind {
                    Kind::F32 => values[0] = f32::from_bits(word),
                    Kind::Bf16 => {
                        for (place, value) in values.iter_mut().enumerate() {
                            *value = f32::from_bits(word >> (16 * place) << 16);
                        }
                    }
                }
            }
        });
        Tensor::from_vec(values, (outputs.len(), self.inputs), &Device::Cpu)
    }

    fn reads(&self) -> Reads {
        Reads(Form::Words(self.kind))
    }

    fn read(&self, x: &[f32]) -> Read {
        Read::Words(Rows::new(x, self.inputs, self.kind))
    }

    fn width(&self, rows: usize) -> usize {
        let panels = self.outputs.div_ceil(PANEL);
        PANEL * together(panels, size_of_val(self.panel(0)), rows, PANELS)
    }

    fn height(&self, rows: usize) -> usize {
        self.height_by(Kernel::best(self.kind), rows)
    }

    fn fill(&self, output_block: &mut OutputBlock, x: &Read) {
        if let Read::Words(x) = x {
            self.fill_by(Kernel::best(self.kind), output_block, x);
        }
    }
}

/// The product as an operation of candle, with a gradient.
pub struct Product(pub Arc<dyn Multiplies>);

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "packed-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = layout.shape().dims2()?;
        let (CpuStorage::F32(x), Some((start, end))) = (x, layout.contiguous_offsets()) else {
            candle_core::bail!("the input of a packed product must be fp32 and contiguous")
        };
        let y = products(&[&*self.0], &x[start..end]).pop().unwrap_or_default();
        Ok((CpuStorage::F32(y), (rows, self.0.dims().0).into()))
    }

    /// The gradient uses the stored weights; they are not trained.
    fn bwd(&self, _x: &Tensor, _y: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.matmul(&self.0.values()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: (usize, usize)) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    /// Every kernel of this machine, and tiles, emulated if need be.
    fn kernels(kind: Kind) -> Vec<Kernel> {
        let known = [Kernel::Portable, Kernel::Avx2, Kernel::Avx512, Kernel::Amx];
        let mut kernels: Vec<Kernel> = known.map(|most| Kernel::choose(kind, most)).into();
        kernels.dedup();
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if kind == Kind::Bf16 && !kernels.contains(&Kernel::Amx) && amx::tests::ready() {
            kernels.push(Kernel::Amx);
        }
        kernels
    }

    /// All kernels, against a product in fp64 of the values as stored.
    #[track_caller]
    fn check(rows: usize, inputs: usize, outputs: usize, dtype: DType) {
        let weight = random((outputs, inputs)).to_dtype(dtype).unwrap();
        let x = random((rows, inputs));
        let packed = Packed::new(&weight).unwrap();
        let wide = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let rounded = x.to_dtype(dtype).unwrap();
        let expected = wide(&rounded).matmul(&wide(&weight).t().unwrap()).unwrap();
        let expected = expected.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let flat = x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for kernel in kernels(packed.kind) {
            let got = packed.product_by(kernel, &flat);
            assert_eq!(got.len(), expected.len());
            // The error of rounded partial sums; both types are summed in fp32.
            let bound = 2e-6 * inputs as f64 + 1e-6;
            for (place, (&got, &expected)) in got.iter().zip(&expected).enumerate() {
                let apart = (f64::from(got) - expected).abs();
                assert!(
                    apart <= bound,
                    "{kernel:?} {dtype:?} {rows} x {inputs} x {outputs}: value {place} is off by {apart}"
                );
            }
        }
    }

    #[test]
    fn all_kernels_make_the_product() {
        for dtype in [DType::F32, DType::BF16] {
            for rows in [1, 2, 3, 8, 11, 12, 13, 40] {
                check(rows, 64, 96, dtype);
                check(rows, 33, 50, dtype);
            }
            check(2, 1, 1, dtype);
            check(3, 2 * GROUPS + 5, 33, dtype);
            check(15, 4 * GROUPS + 7, 70, dtype);
        }
    }

    #[test]
    fn a_user_can_ask_for_less_than_the_processor_has() {
        for kind in [Kind::F32, Kind::Bf16] {
            assert_eq!(Kernel::choose(kind, Kernel::named("portable")), Kernel::Portable);
            assert!(Kernel::choose(kind, Kernel::named("avx512")) <= Kernel::Avx512);
            assert_eq!(
                Kernel::choose(kind, Kernel::named("")),
                Kernel::choose(kind, Kernel::Amx)
            );
        }
    }

    #[test]
    fn values_come_back_as_they_were() {
        for dtype in [DType::F32, DType::BF16] {
            let weight = random((70, 37)).to_dtype(dtype).unwrap();
            let packed = Packed::new(&weight).unwrap();
            let expected = weight.to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(packed.values().unwrap().to_vec2::<f32>().unwrap(), expected);
            let some = packed.rows(&[69, 0, 33]).unwrap().to_vec2::<f32>().unwrap();
            assert_eq!(some, [69, 0, 33].map(|row| expected[row].clone()));
            assert!(packed.rows(&[70]).is_err());
        }
    }

    #[test]
    fn a_row_does_not_feel_the_others() {
        for dtype in [DType::F32, DType::BF16] {
            let packed = Packed::new(&random((90, 100)).to_dtype(dtype).unwrap()).unwrap();
            let x = random((53, 100)).flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for kernel in kernels(packed.kind) {
                let together = packed.product_by(kernel, &x);
                for (row, together) in together.chunks(90).enumerate() {
                    assert_eq!(packed.product_by(kernel, &x[row * 100..(row + 1) * 100]), together);
                }
            }
        }
    }
}
