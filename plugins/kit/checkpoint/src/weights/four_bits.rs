//! Matrices that bitsandbytes stored in four bits.
//!
//! `X.weight` holds the codes, two a byte. Its scales, tables and shape are tensors of their own, named after it, such
//! as `X.weight.absmax`. They may lie in other files of the checkpoint.

use super::Weights;
use super::source::Source;
use crate::mapped::Mapped;
use crate::nf4::{BLOCK, CODES, NESTED, Nf4, Scales};
use crate::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use std::ops::Range;

const STATE: &str = "quant_state.bitsandbytes__nf4";
const OTHER_STATE: &str = "quant_state.bitsandbytes__fp4";

/// The last parts of the names of tensors that belong to codes.
const PARTS: [&str; 6] = [
    STATE,
    OTHER_STATE,
    "absmax",
    "quant_map",
    "nested_absmax",
    "nested_quant_map",
];

/// What bitsandbytes notes about a matrix.
#[derive(Deserialize)]
struct State {
    quant_type: String,
    blocksize: u64,
    shape: Vec<usize>,
    dtype: String,
    nested_blocksize: Option<u64>,
    nested_dtype: Option<String>,
    nested_offset: Option<f64>,
}

/// A matrix in four bits, in its file.
pub struct FourBits<'w> {
    pub shape: Vec<usize>,
    /// The type of the values that were quantised.
    pub dtype: Dtype,
    stored: Nf4<&'w [u8]>,
    file: &'w Mapped,
}

impl FourBits<'_> {
    /// Some values, row by row, widened. Their bytes leave memory.
    pub fn values(&self, some: Range<usize>) -> Vec<f32> {
        let mut values = vec![0.0; some.len()];
        self.stored.read(some.clone(), &mut values);
        self.file
            .done_with(&self.stored.bytes[some.start / 2..some.end.div_ceil(2)]);
        values
    }

    /// Lets the bytes of all codes leave memory. Reading some of them also maps their neighbours.
    pub(super) fn done(&self) {
        self.file.done_with(self.stored.bytes);
    }

    pub fn all_values(&self) -> Vec<f32> {
        self.values(0..self.shape.iter().product())
    }

    /// A copy of the codes and scales.
    pub fn to_nf4(&self) -> Nf4 {
        let bytes = self.stored.bytes.to_vec();
        self.file.done_with(self.stored.bytes);
        Nf4 {
            bytes,
            scales: self.stored.scales.clone(),
        }
    }
}

impl Weights {
    /// Whether any tensor is stored in four bits.
    pub fn any_in_four_bits(&self) -> bool {
        self.store.places.keys().any(|name| self.belongs_to_four_bits(name))
    }

    /// Whether a tensor of this name below these weights is stored in four bits.
    pub fn has_four_bits(&self, name: &str) -> bool {
        let tensor = self.path(name);
        let has = |part: &str| self.store.places.contains_key(&format!("{tensor}.{part}"));
        has(STATE) || has(OTHER_STATE) || has("absmax")
    }

    /// Whether this full name is that of scales, tables or a shape that belong to a matrix in four bits.
    pub fn belongs_to_four_bits(&self, tensor: &str) -> bool {
        self.codes_of(tensor).is_some()
    }

    /// The full name of the codes to which a tensor of this full name belongs, if there are any.
    pub(super) fn codes_of<'t>(&self, tensor: &'t str) -> Option<&'t str> {
        let codes = PARTS
            .iter()
            .find_map(|part| tensor.strip_suffix(part)?.strip_suffix('.'))?;
        self.store.places.contains_key(codes).then_some(codes)
    }

    /// A matrix, if it is stored in four bits.
    pub fn four_bits(&self, name: &str) -> Result<Option<FourBits<'_>>> {
        if !self.has_four_bits(name) {
            return Ok(None);
        }
        let tensor = self.path(name);
        let place = self.file_of(name);
        let fault = |why: String| Error::FourBits {
            place: place.clone(),
            tensor: tensor.clone(),
            why,
        };
        let part = |part: &str| {
            let found = self.mapped_tensor(&format!("{tensor}{part}"))?;
            found.ok_or_else(|| fault(format!("lacks `{tensor}{part}`")))
        };
        let has = |part: &str| self.store.places.contains_key(&format!("{tensor}.{part}"));
        if has(OTHER_STATE) {
            return Err(fault("is of type fp4, expected nf4".to_owned()));
        }
        let (_, state) = part(&format!(".{STATE}"))?;
        let state: State = serde_json::from_slice(state.data())
            .map_err(|why| fault(format!("has a state that cannot be parsed: {why}")))?;
        if state.quant_type != "nf4" || state.blocksize != BLOCK as u64 {
            let (kind, size) = (&state.quant_type, state.blocksize);
            return Err(fault(format!(
                "is of type {kind} in blocks of {size}, expected nf4 in blocks of {BLOCK}"
            )));
        }
        let dtype = match state.dtype.as_str() {
            "float32" => Dtype::F32,
            "bfloat16" => Dtype::BF16,
            "float16" => Dtype::F16,
            other => {
                return Err(fault(format!(
                    "was made from {other}, expected float32, float16 or bfloat16"
                )));
            }
        };
        let shape = state.shape;
        let count = shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let (file, codes) = part("")?;
        // The codes may be declared as another type (`bnb_4bit_quant_storage`): their bytes are the same.
        let count = count.filter(|count| count.div_ceil(2) == codes.data().len());
        let Some(count) = count else {
            let bytes = codes.data().len();
            return Err(fault(format!(
                "has {bytes} bytes of codes, which do not fit its shape {shape:?}"
            )));
        };
        let floats = |name: &str, count: usize| -> Result<Vec<f32>> {
            let (_, view) = part(name)?;
            if view.dtype() != Dtype::F32 || view.data().len() != 4 * count {
                return Err(fault(sizes(&format!("{tensor}{name}"), &view, count, "F32")));
            }
            let (fours, _) = view.data().as_chunks::<4>();
            Ok(fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
        };
        if has("quant_map") {
            let table = floats(".quant_map", CODES.len())?;
            if table.iter().zip(CODES).any(|(x, y)| (x - y).abs() > 1e-6) {
                return Err(fault("has codes of other values than nf4's".to_owned()));
            }
        }
        let blocks = count.div_ceil(BLOCK);
        let scales = match has("nested_absmax") || state.nested_blocksize.is_some() {
            false => Scales::Plain(floats(".absmax", blocks)?),
            true => {
                let size = state.nested_blocksize.unwrap_or(NESTED as u64);
                let kind = state.nested_dtype.as_deref().unwrap_or("float32");
                if size != NESTED as u64 || kind != "float32" {
                    return Err(fault(format!(
                        "has scales of {kind} in blocks of {size}, expected float32 in blocks of {NESTED}"
                    )));
                }
                let (_, codes) = part(".absmax")?;
                if codes.dtype() != Dtype::U8 || codes.data().len() != blocks {
                    return Err(fault(sizes(&format!("{tensor}.absmax"), &codes, blocks, "U8")));
                }
                let offset = state.nested_offset;
                let offset = offset.ok_or_else(|| fault("has a state without `nested_offset`".to_owned()))?;
                let mut table = Box::new([0.0; 256]);
                table.copy_from_slice(&floats(".nested_quant_map", 256)?);
                Scales::Double {
                    codes: codes.data().to_vec(),
                    absmax: floats(".nested_absmax", blocks.div_ceil(NESTED))?,
                    offset: offset as f32,
                    table,
                }
            }
        };
        Ok(Some(FourBits {
            shape,
            dtype,
            stored: Nf4 {
                bytes: codes.data(),
                scales,
            },
            file,
        }))
    }

    /// The same for a tensor that must have this shape.
    pub fn four_bits_of(&self, name: &str, shape: &[usize]) -> Result<Option<FourBits<'_>>> {
        match self.four_bits(name)? {
            Some(found) if found.shape != shape => Err(Error::Shape {
                file: self.file_of(name),
                tensor: self.path(name),
                expected: shape.to_vec(),
                got: found.shape,
            }),
            found => Ok(found),
        }
    }

    /// A tensor of this full name and its file, if there is one.
    fn mapped_tensor(&self, tensor: &str) -> Result<Option<(&Mapped, TensorView<'_>)>> {
        let Some((path, source)) = self.store.places.get(tensor).map(|&place| &self.store.files[place]) else {
            return Ok(None);
        };
        let malformed = |reason: String| Error::Malformed {
            path: path.clone(),
            reason,
        };
        let Source::Mapped(file) = &**source else {
            return Err(malformed(format!(
                "it holds `{tensor}`, and four-bit values are read from safetensors only"
            )));
        };
        Ok(Some((file, file.get(tensor).map_err(malformed)?)))
    }
}

fn sizes(tensor: &str, view: &TensorView, count: usize, kind: &str) -> String {
    let (got, shape) = (view.dtype(), view.shape());
    format!("has `{tensor}` as {got:?} of shape {shape:?}, expected {count} values of {kind}")
}

#[cfg(test)]
mod tests;
