//! The adapter that training starts from.

use super::failed;
use crate::lora::folder::{self, WRAPPED};
use nn::Weights;
use plugin_api::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A PEFT folder whose factors are the initial ones.
pub(crate) struct Adapter {
    weights: Weights,
    /// Tensor names by plain module name and factor.
    places: BTreeMap<(String, String), String>,
    /// Module names as its settings and tensors have them, by plain name.
    modules: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

impl Adapter {
    pub fn open(path: &Path) -> Result<Adapter> {
        let weights = folder::open(path)?;
        let (mut places, mut modules) = (BTreeMap::new(), BTreeMap::new());
        for name in weights.names() {
            let plain = name.strip_prefix(WRAPPED).unwrap_or(&name).replace(".default.", ".");
            let split = plain.rsplit_once(".lora_").or_else(|| plain.rsplit_once('.'));
            let (module, factor) = split.unwrap_or((&plain, ""));
            let module = module.strip_suffix(".base_layer").unwrap_or(module);
            let own = checkpoint::plain_name(module).to_owned();
            modules.insert(own.clone(), module.to_owned());
            places.insert((own, factor.to_owned()), name);
        }
        Ok(Adapter {
            weights,
            places,
            modules,
            used: BTreeSet::new(),
        })
    }

    /// What its settings and tensors call a module; none if it has nothing for it.
    pub fn module(&self, name: &str) -> Option<String> {
        self.modules.get(checkpoint::plain_name(name)).cloned()
    }

    /// A tensor that was not taken.
    pub fn left(&self) -> Option<&String> {
        self.places.values().find(|name| !self.used.contains(*name))
    }

    /// The values of a tensor; none if the file lacks it.
    pub fn take(&mut self, module: &str, factor: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let key = (checkpoint::plain_name(module).to_owned(), factor.to_owned());
        let Some(name) = self.places.get(&key) else {
            return Ok(None);
        };
        self.used.insert(name.clone());
        let of_another = |error: Error| error.help("check that the LoRA and its settings are for this model");
        let tensor = self.weights.get(name, shape).map_err(|why| of_another(failed(why)))?;
        let values = tensor.flatten_all().and_then(|tensor| tensor.to_vec1());
        values.map(Some).map_err(|why| failed(why.into()))
    }
}
