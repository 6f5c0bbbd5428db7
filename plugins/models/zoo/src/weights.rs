//! A checkpoint's tensors under the names that candle's models use.

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use nn::{Error, Weights};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of the token table, which is also the head if the two are tied.
const TABLES: [&str; 3] = [
    "model.embed_tokens.weight",
    "transformer.word_embeddings.weight",
    "transformer.wte.weight",
];
/// Candle's name of a tensor, and the name in files.
const RENAMED: [(&str, &str); 1] = [("backbone.embedding.weight", "backbone.embeddings.weight")];

/// Reads each tensor once, so that a model can be built again from the tensors of another.
#[derive(Clone)]
pub struct Files {
    weights: Weights,
    tied: bool,
    read: Arc<Mutex<HashMap<String, Tensor>>>,
    failed: Arc<Mutex<Option<Error>>>,
}

impl Files {
    pub fn of(weights: &Weights, tied: bool) -> Files {
        Files {
            weights: weights.clone(),
            tied,
            read: Arc::default(),
            failed: Arc::default(),
        }
    }

    pub fn builder(&self) -> VarBuilder<'static> {
        let (dtype, device) = (self.weights.dtype(), self.weights.device().clone());
        VarBuilder::from_backend(Box::new(self.clone()), dtype, device)
    }

    /// Why a tensor could not be read, since candle's errors cannot hold it.
    pub fn reason(&self) -> Option<Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The name of a tensor in the files.
    fn name_of<'n>(&self, name: &'n str) -> &'n str {
        let table = TABLES.iter().find(|table| self.weights.has(table));
        match (table, RENAMED.iter().find(|(asked, _)| *asked == name)) {
            (Some(table), _) if self.tied && name == "lm_head.weight" => table,
            (_, Some((_, file))) => file,
            _ => name,
        }
    }
}

impl SimpleBackend for Files {
    fn get(&self, shape: Shape, name: &str, _init: Init, _dtype: DType, _device: &Device) -> Result<Tensor> {
        let name = self.name_of(name);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tensor) = read.get(name).filter(|tensor| *tensor.shape() == shape) {
            return Ok(tensor.clone());
        }
        let tensor = self.weights.get(name, shape.dims()).map_err(|error| {
            let told = candle_core::Error::msg(&error);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert(error);
            told
        })?;
        read.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let stored = self.weights.stored(self.name_of(name));
        let (_, shape) = stored.map_err(candle_core::Error::msg)?;
        self.get(Shape::from(shape), name, Init::Const(0.0), dtype, device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.weights.has(self.name_of(name))
    }
}
