//! Operations between products, on the CPU: norms, sums and rotations, row by row on all cores.
//!
//! candle does most of these on one core and one number at a time, which takes a third of a prompt's time. Callers ask
//! [`suits`] first; on other devices, and when gradients are needed, the layers use candle's operations instead.

use crate::device::own_kernels;
use crate::packed::{MakeRow, by_parts, by_rows};
use candle_core::{CpuStorage, DType, Device, Layout, Result, Storage, Tensor};
use pulp::{Arch, NullaryFnOnce};
use std::ops::Deref;

/// Partial sums; a multiple of the width of any vector register.
const LANES: usize = 16;
/// Values of one task.
const TASK: usize = 1 << 14;

/// Whether these are fp32 in main memory and need no gradient.
pub fn suits(all: &[&Tensor]) -> bool {
    let plain = |x: &&Tensor| own_kernels(x.device()) && x.dtype() == DType::F32 && !x.track_op();
    all.iter().all(plain)
}

/// A tensor's values, locked for reading.
pub struct Held<'a> {
    storage: Box<dyn Deref<Target = Storage> + 'a>,
    pub layout: &'a Layout,
}

impl<'a> Held<'a> {
    pub fn of(x: &'a Tensor) -> Held<'a> {
        let (storage, layout) = x.storage_and_layout();
        Held {
            storage: Box::new(storage),
            layout,
        }
    }

    /// From the tensor's first value to the end of its storage.
    pub fn rest(&self) -> Result<&[f32]> {
        match &**self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => Ok(&values[self.layout.start_offset()..]),
            _ => candle_core::bail!("row-wise operations need fp32 in main memory"),
        }
    }

    /// All values of a contiguous tensor.
    pub fn all(&self) -> Result<&[f32]> {
        match self.layout.is_contiguous() {
            true => Ok(&self.rest()?[..self.layout.shape().elem_count()]),
            false => candle_core::bail!("row-wise operations need contiguous values"),
        }
    }
}

/// Normalises the last dimension: division by the root mean square, then a weight for each channel.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (values, weight) = (Held::of(&x), Held::of(weight));
    let (values, weight) = (values.all()?, weight.all()?);
    let size = weight.len();
    let arch = Arch::new();
    let out = by_rows(values.len() / size.max(1), size, |row, out: &mut [f32]| {
        let x = &values[row * size..(row + 1) * size];
        arch.dispatch(Norm { x, weight, eps, out });
    });
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

struct Norm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (lines, rest) = self.x.as_chunks::<LANES>();
        let mut sums = [0f32; LANES];
        for line in lines {
            for lane in 0..LANES {
                sums[lane] += line[lane] * line[lane];
            }
        }
        let sum = sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (sum / self.x.len() as f32 + self.eps).sqrt();
        for ((out, x), weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * scale * weight;
        }
    }
}

/// Normalises the last dimension: subtraction of the mean, division by the deviation, then a weight and a bias for
/// each channel.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    let out = lend_layer_norm(x, weight, bias, eps, |rows, size, make| by_rows(rows, size, make))?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// Passes the number of rows, their size, and a function that normalises one row to `take`.
pub fn lend_layer_norm<T>(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
    take: impl FnOnce(usize, usize, &MakeRow) -> T,
) -> Result<T> {
    let x = x.contiguous()?;
    let (values, weight, bias) = (Held::of(&x), Held::of(weight), Held::of(bias));
    let (values, weight, bias) = (values.all()?, weight.all()?, bias.all()?);
    let inputs = weight.len();
    let arch = Arch::new();
    let make = |row: usize, out: &mut [f32]| {
        arch.dispatch(Centred {
            x: &values[row * inputs..(row + 1) * inputs],
            weight,
            bias,
            eps,
            out,
        });
    };
    Ok(take(values.len() / inputs.max(1), inputs, &make))
}

struct Centred<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Centred<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (lines, rest) = self.x.as_chunks::<LANES>();
        let mut sums = [0f32; LANES];
        for line in lines {
            for lane in 0..LANES {
                sums[lane] += line[lane];
            }
        }
        let count = self.x.len() as f32;
        let mean = (sums.iter().sum::<f32>() + rest.iter().sum::<f32>()) / count;
        let mut squares = [0f32; LANES];
        for line in lines {
            for lane in 0..LANES {
                squares[lane] += (line[lane] - mean) * (line[lane] - mean);
            }
        }
        let of_rest = rest.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>();
        let scale = 1.0 / ((squares.iter().sum::<f32>() + of_rest) / count + self.eps).sqrt();
        let channels = self.weight.iter().zip(self.bias);
        for ((out, x), (weight, bias)) in self.out.iter_mut().zip(self.x).zip(channels) {
            *out = (x - mean) * scale * weight + bias;
        }
    }
}

/// Rows of a table (rows, size), by index.
pub fn select(table: &Tensor, numbers: &[u32]) -> Result<Tensor> {
    let table = table.contiguous()?;
    let (rows, size) = table.dims2()?;
    if let Some(beyond) = numbers.iter().find(|&&number| number as usize >= rows) {
        candle_core::bail!("row {beyond} of a table of {rows}")
    }
    let held = Held::of(&table);
    let values = held.all()?;
    let out = by_rows(numbers.len(), size, |row, out: &mut [f32]| {
        out.copy_from_slice(&values[numbers[row] as usize * size..][..size]);
    });
    Tensor::from_vec(out, (numbers.len(), size), &Device::Cpu)
}

/// `x + y`, where `y` has the shape of `x` or of its last dimension.
pub fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    let (a, b) = (Held::of(&x), Held::of(&y));
    let (a, b) = (a.all()?, b.all()?);
    let size = x.dims().last().copied().unwrap_or(1);
    if b.len() != a.len() && b.len() != size {
        candle_core::bail!("{:?} and {:?} cannot be added row by row", x.shape(), y.shape())
    }
    let out = match b.len() == a.len() {
        true => by_parts(a.len(), 1, TASK, |first, out: &mut [f32]| {
            let end = first + out.len();
            add(out, &a[first..end], &b[first..end]);
        }),
        false => by_rows(a.len() / size.max(1), size, |row, out: &mut [f32]| {
            add(out, &a[row * size..(row + 1) * size], b);
        }),
    };
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

fn add(out: &mut [f32], a: &[f32], b: &[f32]) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = a + b;
    }
}

/// Which channels of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pairs {
    /// Channel n of the first half with channel n of the second.
    #[default]
    Halves,
    /// Each channel with its neighbour.
    Neighbours,
}

/// Rotates the first channels of each head in pairs, one for each angle, and leaves the others unchanged; x is
/// (tokens, heads, size), cosines and sines are (tokens, pairs).
pub fn turn(x: &Tensor, cos: &Tensor, sin: &Tensor, pairs: Pairs) -> Result<Tensor> {
    let x = x.contiguous()?;
    let (tokens, heads, size) = x.dims3()?;
    let (values, cos, sin) = (Held::of(&x), Held::of(cos), Held::of(sin));
    let (values, cos, sin) = (values.all()?, cos.all()?, sin.all()?);
    let (width, count) = (heads * size, cos.len() / tokens.max(1));
    if cos.len() != tokens * count || sin.len() != cos.len() || 2 * count > size {
        candle_core::bail!("{} angles for {tokens} tokens and heads of {size}", cos.len())
    }
    let arch = Arch::new();
    let out = by_rows(tokens, width, |token, out: &mut [f32]| {
        let angles = token * count..(token + 1) * count;
        arch.dispatch(Turn {
            x: &values[token * width..(token + 1) * width],
            cos: &cos[angles.clone()],
            sin: &sin[angles],
            size,
            pairs,
            out,
        });
    });
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// All heads of a token.
struct Turn<'a> {
    x: &'a [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    size: usize,
    pairs: Pairs,
    out: &'a mut [f32],
}

impl NullaryFnOnce for Turn<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let half = self.cos.len();
        let size = self.size.max(1);
        let heads = self.out.chunks_exact_mut(size).zip(self.x.chunks_exact(size));
        for (out, x) in heads {
            let ((out, rest), (x, kept)) = (out.split_at_mut(2 * half), x.split_at(2 * half));
            rest.copy_from_slice(kept);
            let angles = self.cos.iter().zip(self.sin);
            match self.pairs {
                Pairs::Halves => {
                    let ((low, high), (x, y)) = (out.split_at_mut(half), x.split_at(half));
                    let places = low.iter_mut().zip(high).zip(x.iter().zip(y));
                    for (((low, high), (x, y)), (cos, sin)) in places.zip(angles) {
                        *low = x * cos - y * sin;
                        *high = y * cos + x * sin;
                    }
                }
                Pairs::Neighbours => {
                    let (out, x) = (out.as_chunks_mut::<2>().0, x.as_chunks::<2>().0);
                    for ((out, [x, y]), (cos, sin)) in out.iter_mut().zip(x).zip(angles) {
                        *out = [x * cos - y * sin, y * cos + x * sin];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    #[track_caller]
    fn check(got: &Tensor, expected: &Tensor) {
        assert_eq!(got.dims(), expected.dims());
        let apart = (got - expected).unwrap().abs().unwrap().max_all().unwrap();
        let apart = apart.to_scalar::<f32>().unwrap();
        assert!(apart < 1e-5, "{apart}");
    }

    #[test]
    fn norms_are_those_of_candle_in_many_steps() {
        for shape in [&[3, 40][..], &[1, 1], &[700, 64], &[5, 4, 33]] {
            let (x, weight) = (random(shape), random(&shape[shape.len() - 1..]));
            let expected = candle_nn::ops::rms_norm_slow(&x, &weight, 1e-6).unwrap();
            check(&rms_norm(&x, &weight, 1e-6).unwrap(), &expected);
            // Rows that are not contiguous.
            let apart = Tensor::cat(&[&x, &x], 0)
                .unwrap()
                .narrow(0, shape[0], shape[0])
                .unwrap();
            check(&rms_norm(&apart, &weight, 1e-6).unwrap(), &expected);
            let bias = random(&shape[shape.len() - 1..]);
            let expected = candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5).unwrap();
            check(&layer_norm(&x, &weight, &bias, 1e-5).unwrap(), &expected);
        }
    }

    #[test]
    fn sums_are_by_value_or_by_channel() {
        for shape in [&[3, 40][..], &[700, 64], &[1, 1]] {
            let (x, y, bias) = (random(shape), random(shape), random(&shape[1..]));
            assert_eq!(
                sum(&x, &y).unwrap().to_vec2::<f32>().unwrap(),
                (&x + &y).unwrap().to_vec2::<f32>().unwrap()
            );
            check(&sum(&x, &bias).unwrap(), &x.broadcast_add(&bias).unwrap());
        }
        assert!(sum(&random(&[3, 4]), &random(&[3])).is_err());
    }
}
