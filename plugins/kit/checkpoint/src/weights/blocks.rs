//! Quantised matrices in safetensors files.
//!
//! The format has no type for blocks. So a quantised matrix `w.weight` is a tensor of bytes, (outputs, bytes of a
//! row), whose name ends with the block type: `w.weight.q4_k`. Only `convert` writes such files.

use super::Weights;
use super::source::Source;
use super::values::rows_of;
use crate::mapped::Mapped;
use crate::{Error, Result};
use candle_core::Device;
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use kernels::precision::QUANTS;
use kernels::{Matrix, fitting};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::borrow::Cow;
use std::ops::Range;

/// The block type in a tensor's name, if there is one.
pub(super) fn kind(name: &str) -> Option<GgmlDType> {
    let (_, word) = name.rsplit_once('.')?;
    QUANTS
        .iter()
        .find_map(|(known, dtype)| (*known == word).then_some(*dtype))
}

fn name_of(tensor: &str, dtype: GgmlDType) -> Option<String> {
    let (word, _) = QUANTS.iter().find(|(_, known)| *known == dtype)?;
    Some(format!("{tensor}.{word}"))
}

pub(super) struct InBlocks<'w> {
    pub dtype: GgmlDType,
    inputs: usize,
    file: &'w Mapped,
    view: TensorView<'w>,
}

impl InBlocks<'_> {
    pub fn rows(&self, rows: Range<usize>) -> Result<Vec<u8>> {
        let bytes = rows_of(&self.view, rows)?;
        let copied = bytes.to_vec();
        self.file.done_with(bytes);
        Ok(copied)
    }

    pub fn values(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let dims = (rows.len(), self.inputs);
        let storage = QStorage::from_data(Cow::Owned(self.rows(rows)?), &Device::Cpu, self.dtype)?;
        let values = QTensor::new(storage, dims)?.dequantize(&Device::Cpu)?;
        Ok(values.flatten_all()?.to_vec1()?)
    }
}

impl Weights {
    /// A matrix of this shape, if it is stored in blocks.
    pub(super) fn in_blocks(&self, name: &str, (outputs, inputs): (usize, usize)) -> Result<Option<InBlocks<'_>>> {
        let tensor = self.path(name);
        let found = QUANTS.iter().find_map(|&(_, dtype)| {
            let stored = name_of(&tensor, dtype)?;
            let &place = self.store.places.get(&stored)?;
            Some((stored, dtype, &self.store.files[place]))
        });
        let Some((stored, dtype, (path, source))) = found else {
            return Ok(None);
        };
        let malformed = |reason: String| Error::Malformed {
            path: path.clone(),
            reason: format!("tensor `{stored}` {reason}"),
        };
        let Source::Mapped(file) = &**source else {
            return Err(malformed("lies in a file that cannot hold blocks".to_owned()));
        };
        let view = file.get(&stored).map_err(malformed)?;
        let expected = [outputs, inputs / dtype.block_size() * dtype.type_size()];
        let whole = inputs.is_multiple_of(dtype.block_size());
        if !whole || view.dtype() != Dtype::U8 || view.shape() != expected {
            let (got, shape) = (view.dtype(), view.shape());
            return Err(malformed(format!(
                "is {got:?} of {shape:?}, expected bytes of {expected:?} for a matrix of {outputs} outputs, {inputs} inputs"
            )));
        }
        Ok(Some(InBlocks {
            dtype,
            inputs,
            file,
            view,
        }))
    }

    /// The matrix whose blocks a tensor holds, by the tensor's full name: name, outputs and inputs. None for other tensors.
    pub fn matrix_of_blocks(&self, tensor: &str) -> Option<(String, [usize; 2])> {
        let (dtype, (name, _)) = (kind(tensor)?, tensor.rsplit_once('.')?);
        let (Dtype::U8, shape) = self.root().stored(tensor).ok()? else {
            return None;
        };
        let &[outputs, bytes] = &shape[..] else { return None };
        Some((
            name.to_owned(),
            [outputs, bytes / dtype.type_size() * dtype.block_size()],
        ))
    }

    /// How these weights would store a matrix in blocks: the tensor's name and shape, and the block type. None if no
    /// block fits, or if it is in blocks already.
    pub(crate) fn to_blocks(&self, name: &str) -> Result<Option<(String, [usize; 2], GgmlDType)>> {
        let Some(wanted) = self.quant_of(name) else {
            return Ok(None);
        };
        let (stored, shape) = self.type_of_values(name)?;
        let ([outputs, inputs], Dtype::F32 | Dtype::F16 | Dtype::BF16) = (shape.as_slice(), stored) else {
            return Ok(None);
        };
        let table = name.ends_with("embed_tokens.weight"); // as `table` asks for it
        let wanted = if table { GgmlDType::Q8_0 } else { wanted };
        Ok(fitting(wanted, *inputs).and_then(|dtype| {
            let row = inputs / dtype.block_size() * dtype.type_size();
            Some((name_of(name, dtype)?, [*outputs, row], dtype))
        }))
    }

    /// Whether a tensor is one of the scales, tables or states of a matrix in four bits that these weights would store in
    /// blocks, which need none of them.
    pub fn goes_with_blocks(&self, name: &str) -> Result<bool> {
        match self.codes_of(&self.path(name)) {
            Some(codes) => Ok(self.root().to_blocks(codes)?.is_some()),
            None => Ok(false),
        }
    }

    /// The type and shape of a tensor's values, which four-bit codes do not have themselves.
    fn type_of_values(&self, name: &str) -> Result<(Dtype, Vec<usize>)> {
        match self.four_bits(name)? {
            Some(found) => Ok((found.dtype, found.shape)),
            None => self.stored(name),
        }
    }

    /// The blocks of a matrix that is stored as plain values, or in four bits.
    pub(crate) fn blocks_of(&self, name: &str, dtype: GgmlDType) -> Result<Vec<u8>> {
        let (_, shape) = self.type_of_values(name)?;
        let dims = (shape.first().copied().unwrap_or(0), shape.last().copied().unwrap_or(0));
        self.with_finite_rows(name, dims, |rows| Matrix::blocks(dims, rows, dtype))
    }
}
