//! Recorded tensors, as fp64.

use super::unreadable;
use plugin_api::Result;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

pub(super) struct Tensors {
    path: PathBuf,
    content: Vec<u8>,
}

impl Tensors {
    pub fn open(path: &Path) -> Result<Tensors> {
        let content = std::fs::read(path).map_err(|why| unreadable(path, why))?;
        SafeTensors::deserialize(&content).map_err(|why| unreadable(path, why))?;
        Ok(Tensors {
            path: path.to_owned(),
            content,
        })
    }

    pub fn names(&self) -> Vec<String> {
        let file = SafeTensors::deserialize(&self.content);
        file.map(|file| file.names().into_iter().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        let file = SafeTensors::deserialize(&self.content).map_err(|why| unreadable(&self.path, why))?;
        let view = file.tensor(name).map_err(|why| unreadable(&self.path, why))?;
        Ok(view.shape().to_vec())
    }

    pub fn values(&self, name: &str) -> Result<Vec<f64>> {
        let file = SafeTensors::deserialize(&self.content).map_err(|why| unreadable(&self.path, why))?;
        let view = file.tensor(name).map_err(|why| unreadable(&self.path, why))?;
        let bytes = view.data();
        Ok(match view.dtype() {
            Dtype::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|x| f64::from(f32::from_le_bytes(*x)))
                .collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|x| f64::from_le_bytes(*x)).collect(),
            Dtype::I64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|x| i64::from_le_bytes(*x) as f64)
                .collect(),
            Dtype::U8 => bytes.iter().map(|x| f64::from(*x)).collect(),
            Dtype::BF16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|x| half::bf16::from_le_bytes(*x).to_f64())
                .collect(),
            Dtype::F16 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|x| half::f16::from_le_bytes(*x).to_f64())
                .collect(),
            other => return Err(unreadable(&self.path, format!("`{name}` is stored as {other:?}"))),
        })
    }

    pub fn floats(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.values(name)?.into_iter().map(|x| x as f32).collect())
    }
}

pub(super) fn length(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}
