//! Reads tensors of a checkpoint for training.

use super::failed;
use super::stored::{Form, Stored};
use crate::nf4;
use half::{bf16, f16};
use nn::Weights;
use plugin_api::{Code, Error, Result};
use safetensors::Dtype;

/// How frozen matrices are stored.
pub(crate) struct Reader {
    /// Linear layers in four bits.
    pub four_bits: bool,
    /// With the scales in bytes.
    pub double: bool,
}

impl Reader {
    pub fn vector(&self, at: &Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = at.get(name, shape).map_err(failed)?;
        let values = tensor
            .flatten_all()
            .and_then(|tensor| tensor.to_dtype(candle_core::DType::F32))
            .and_then(|tensor| tensor.to_vec1());
        values.map_err(|why| failed(why.into()))
    }

    /// All values of a matrix that is learnt, as fp32.
    pub fn learnt(&self, at: &Weights, shape: &[usize]) -> Result<Vec<f32>> {
        match at.has_four_bits("weight") {
            true => Err(not_learnt(&format!("`{}`", at.path("weight")))),
            false => self.vector(at, "weight", shape),
        }
    }

    /// A matrix as it is stored, or in four bits if it belongs to a linear layer and these are wanted.
    pub fn matrix(&self, at: &Weights, shape: &[usize], linear: bool) -> Result<Stored> {
        let (rows, columns) = (shape[0], shape[1..].iter().product());
        let form = match at.four_bits_of("weight", shape).map_err(failed)? {
            Some(found) => Form::Nf4(found.to_nf4()),
            None if self.four_bits && linear => {
                let plain = Stored::new(self.plain(at, shape)?, rows, columns);
                Form::Nf4(nf4::quantise(rows * columns, self.double, |start, out| {
                    plain.read_across(start, out);
                }))
            }
            None => self.plain(at, shape)?,
        };
        Ok(Stored::new(form, rows, columns))
    }

    fn plain(&self, at: &Weights, shape: &[usize]) -> Result<Form> {
        let half = match at.stored("weight") {
            Ok((dtype @ (Dtype::BF16 | Dtype::F16), stored)) if stored == shape => Some(dtype),
            _ => None,
        };
        let count = shape.iter().product();
        Ok(match half {
            Some(Dtype::BF16) => Form::Bf16(halves(at, count, bf16::from_le_bytes)?),
            Some(_) => Form::F16(halves(at, count, f16::from_le_bytes)?),
            None => Form::F32(self.vector(at, "weight", shape)?),
        })
    }
}

/// Values of two bytes each.
fn halves<T>(at: &Weights, count: usize, value: fn([u8; 2]) -> T) -> Result<Vec<T>> {
    let mut values = kernels::memory::with_room(count);
    let read = at.with_stored("weight", |bytes| {
        values.extend(bytes.as_chunks::<2>().0.iter().map(|pair| value(*pair)));
    });
    read.map_err(failed)?;
    Ok(values)
}

/// The error about learning weights that are stored in four bits.
pub fn not_learnt(what: &str) -> Error {
    let message = format!("{what} is stored in four bits and cannot be learnt: a step would round away");
    Error::new(Code::SETTINGS, message)
        .help("learn factors beside it (`--method qlora`), or give the original checkpoint as `weights`")
}
