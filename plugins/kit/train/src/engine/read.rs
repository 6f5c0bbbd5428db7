//! Reads tensors of a checkpoint for training.

use super::failed;
use super::stored::{Form, Stored};
use crate::nf4::{self, Nf4, Scales};
use half::{bf16, f16};
use nn::Weights;
use plugin_api::{Code, Error, Result};
use safetensors::Dtype;
use serde::Deserialize;

/// How frozen matrices are stored.
pub(crate) struct Reader {
    /// Linear layers in four bits.
    pub four_bits: bool,
    /// With the scales in bytes.
    pub double: bool,
}

/// bitsandbytes' metadata of a quantised matrix.
#[derive(Deserialize)]
struct QuantState {
    quant_type: String,
    blocksize: usize,
    shape: Vec<usize>,
    #[serde(default)]
    nested_blocksize: Option<usize>,
    #[serde(default)]
    nested_offset: f64,
}

const STATE: &str = "weight.quant_state.bitsandbytes__nf4";

impl Reader {
    pub fn vector(&self, at: &Weights, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let tensor = at.get(name, shape).map_err(failed)?;
        let values = tensor
            .flatten_all()
            .and_then(|tensor| tensor.to_dtype(candle_core::DType::F32))
            .and_then(|tensor| tensor.to_vec1());
        values.map_err(|why| failed(why.into()))
    }

    /// All values of a matrix as fp32.
    pub fn wide(&self, at: &Weights, shape: &[usize]) -> Result<Vec<f32>> {
        if at.has(STATE) {
            let stored = self.matrix(at, shape, true)?;
            let mut values = vec![0.0; stored.rows * stored.columns];
            let rows = values.chunks_exact_mut(stored.columns).enumerate();
            rows.for_each(|(row, values)| stored.read(row, 0..stored.columns, values));
            return Ok(values);
        }
        self.vector(at, "weight", shape)
    }

    /// A matrix as it is stored, or in four bits if it belongs to a linear layer and these are wanted.
    pub fn matrix(&self, at: &Weights, shape: &[usize], linear: bool) -> Result<Stored> {
        let (rows, columns) = (shape[0], shape[1..].iter().product());
        let form = match at.has(STATE) {
            true => Form::Nf4(quantised_before(at, shape)?),
            false => match self.four_bits && linear {
                true => {
                    let plain = Stored::new(self.plain(at, shape)?, rows, columns);
                    Form::Nf4(nf4::quantise(rows * columns, self.double, |start, out| {
                        plain.read_across(start, out);
                    }))
                }
                false => self.plain(at, shape)?,
            },
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

/// A matrix that bitsandbytes quantised.
fn quantised_before(at: &Weights, shape: &[usize]) -> Result<Nf4> {
    let name = at.path("weight");
    let malformed = |why: String| Error::new(Code::DATA, format!("the four-bit tensor `{name}` {why}"));
    let bytes_of = |tensor: &str| at.with_stored(tensor, <[u8]>::to_vec).map_err(failed);
    let floats_of = |tensor: &str| -> Result<Vec<f32>> {
        let bytes = bytes_of(tensor)?;
        Ok(bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect())
    };
    let state: QuantState = serde_json::from_slice(&bytes_of(STATE)?)
        .map_err(|why| malformed("has a state that cannot be parsed".to_owned()).cause(why.to_string()))?;
    if state.quant_type != "nf4" || state.blocksize != nf4::BLOCK {
        let (kind, size) = (&state.quant_type, state.blocksize);
        return Err(malformed(format!(
            "is {kind} in blocks of {size}, expected nf4 in blocks of 64"
        )));
    }
    if state.shape != shape {
        return Err(malformed(format!("has shape {:?}, expected {shape:?}", state.shape)));
    }
    let values: usize = shape.iter().product();
    let blocks = values.div_ceil(nf4::BLOCK);
    let bytes = bytes_of("weight")?;
    let scales = match at.has("weight.nested_absmax") {
        false => Scales::Plain(floats_of("weight.absmax")?),
        true => {
            if state.nested_blocksize.is_some_and(|size| size != nf4::NESTED) {
                return Err(malformed("has nested blocks of another size than 256".to_owned()));
            }
            let table: Box<[f32]> = floats_of("weight.nested_quant_map")?.into();
            let table = table
                .try_into()
                .map_err(|_| malformed("has a table of another size than 256".to_owned()))?;
            Scales::Double {
                codes: bytes_of("weight.absmax")?,
                absmax: floats_of("weight.nested_absmax")?,
                offset: state.nested_offset as f32,
                table,
            }
        }
    };
    let fits = match &scales {
        Scales::Plain(scales) => scales.len() == blocks,
        Scales::Double { codes, absmax, .. } => codes.len() == blocks && absmax.len() == blocks.div_ceil(nf4::NESTED),
    };
    match fits && bytes.len() == values.div_ceil(2) {
        true => Ok(Nf4 { bytes, scales }),
        false => Err(malformed(
            "has another number of codes or scales than its shape asks for".to_owned(),
        )),
    }
}
