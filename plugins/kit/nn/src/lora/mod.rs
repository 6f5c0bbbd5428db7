//! LoRAs: low-rank branches beside the weights of linear layers, chosen for each token of a pass.
//!
//! The decision a newcomer would question: the LoRAs of a token are not an argument of [`Linear::forward`]. All linear
//! layers of a checkpoint share one [`Loras`], where a pass announces what its tokens use. Otherwise every layer of
//! every model would have to pass it on, and nothing would reveal a layer that forgets.
//!
//! [`Linear::forward`]: crate::Linear::forward

mod config;
mod plan;
mod read;
#[cfg(test)]
mod tests;

pub use plan::{Entered, LoraPlan, LoraSet};

use crate::{Error, Matrix, Result, Weights};
use candle_core::{DType, Device, Tensor};
use checkpoint::plain_name;
use plan::Current;
use plugin_api::{LoraUse, Settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What a LoRA adds to one layer: `scale * B A x`.
///
/// `a` is (rank, in) and `b` (out, rank), in fp32 whatever the layer computes in, as the reference does. They may be
/// trainable variables: the sum is differentiable.
#[derive(Debug, Clone)]
pub struct Factors {
    pub a: Tensor,
    pub b: Tensor,
    pub scale: f64,
}

/// The LoRAs of one checkpoint's layers. Clones share them.
#[derive(Clone, Default)]
pub struct Loras {
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// Where the checkpoint lies.
    folder: PathBuf,
    sites: RwLock<BTreeMap<String, Arc<Site>>>,
    /// A LoRA's number is its index here.
    known: RwLock<Vec<Known>>,
    current: Arc<Current>,
}

struct Known {
    name: String,
    as_loaded: bool,
}

/// A linear layer, as LoRAs see it.
pub struct Site {
    /// Its full name in the checkpoint.
    pub name: String,
    /// Whether its weights are those of the table of tokens.
    pub tied: bool,
    pub inputs: usize,
    pub outputs: usize,
    /// The weights that LoRAs add to.
    pub base: Matrix,
    device: Device,
    branches: RwLock<Vec<Branch>>,
    current: Arc<Current>,
}

struct Branch {
    lora: usize,
    factors: Factors,
    /// Both factors as ordinary weights; none while they are trained.
    fixed: Option<[Matrix; 2]>,
}

impl Branch {
    fn new(lora: usize, factors: Factors) -> Result<Branch> {
        let learnt = factors.a.track_op() || factors.b.track_op();
        let fixed = match learnt {
            true => None,
            false => Some([Matrix::new(factors.a.clone())?, Matrix::new(factors.b.clone())?]),
        };
        Ok(Branch { lora, factors, fixed })
    }

    /// The LoRA's addition for `x` (rows, in).
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Factors { a, b, scale } = &self.factors;
        let y = match &self.fixed {
            Some([a, b]) => b.product(&a.product(x)?)?,
            None => x.matmul(&a.t()?)?.matmul(&b.t()?)?,
        };
        y * *scale
    }
}

impl Loras {
    /// The LoRAs of the layers loaded from these weights; none at first.
    pub fn of(weights: &Weights) -> Loras {
        weights.shared(|| {
            let shelf = Shelf {
                folder: weights.folder().to_owned(),
                ..Shelf::default()
            };
            Loras { shelf: Arc::new(shelf) }
        })
    }

    pub fn folder(&self) -> &Path {
        &self.shelf.folder
    }

    /// Registers the layer of this name.
    pub(crate) fn site(&self, name: &str, base: &Matrix, device: &Device) -> Arc<Site> {
        self.place(name, false, base, device)
    }

    /// Registers the head of a model whose head is tied: LoRAs may still name it.
    pub(crate) fn tied_head(&self, table: &Matrix, device: &Device) -> Arc<Site> {
        self.place("lm_head", true, table, device)
    }

    fn place(&self, name: &str, tied: bool, base: &Matrix, device: &Device) -> Arc<Site> {
        let (outputs, inputs) = base.dims();
        let site = Site {
            name: name.to_owned(),
            tied,
            inputs,
            outputs,
            base: base.clone(),
            device: device.clone(),
            branches: RwLock::default(),
            current: self.shelf.current.clone(),
        };
        let mut sites = write(&self.shelf.sites);
        let key = plain_name(&site.name).to_owned();
        let known = sites.get(&key).cloned();
        if let Some(known) = known.filter(|known| (known.inputs, known.outputs) == (site.inputs, site.outputs)) {
            return known; // the same weights, loaded again
        }
        let site = Arc::new(site);
        sites.insert(key, site.clone());
        site
    }

    /// The layers that can have LoRAs: name in the checkpoint, inputs, outputs.
    pub fn layers(&self) -> Vec<(String, usize, usize)> {
        let of = |site: &Arc<Site>| (site.name.clone(), site.inputs, site.outputs);
        read(&self.shelf.sites).values().map(of).collect()
    }

    pub fn names(&self) -> Vec<String> {
        read(&self.shelf.known).iter().map(|known| known.name.clone()).collect()
    }

    /// Reads the LoRAs that the setting `lora` of a model names.
    pub fn read_all(&self, settings: &Settings) -> plugin_api::Result<()> {
        for (name, folder) in settings.folders("lora")? {
            self.read(&name, &folder, true).map_err(Error::into_plugin_error)?;
        }
        Ok(())
    }

    /// Reads a folder in PEFT's format. With `as_loaded`, prompts that choose nothing use it.
    pub fn read(&self, name: &str, folder: &Path, as_loaded: bool) -> Result<()> {
        let sites = read(&self.shelf.sites).clone();
        let found = read::layers(folder, &sites)?;
        self.put(name, found, as_loaded)
    }

    /// Adds a LoRA from memory, by the names of its layers in the checkpoint.
    pub fn add(&self, name: &str, layers: Vec<(String, Factors)>, as_loaded: bool) -> Result<()> {
        let sites = read(&self.shelf.sites).clone();
        let place = |(layer, factors): (String, Factors)| {
            let Some(site) = sites.get(plain_name(&layer)) else {
                candle_core::bail!("no linear layer is called `{layer}`")
            };
            let rank = factors.a.dim(0)?;
            if factors.a.dims() != [rank, site.inputs] || factors.b.dims() != [site.outputs, rank] {
                let (a, b) = (factors.a.dims(), factors.b.dims());
                candle_core::bail!("factors {a:?} and {b:?} do not fit `{layer}`: {site:?}")
            }
            Ok((site.clone(), factors))
        };
        let layers: candle_core::Result<Vec<_>> = layers.into_iter().map(place).collect();
        self.put(name, layers?, as_loaded)
    }

    fn put(&self, name: &str, layers: Vec<(Arc<Site>, Factors)>, as_loaded: bool) -> Result<()> {
        let mut known = write(&self.shelf.known);
        if name.is_empty() || known.iter().any(|known| known.name == name) {
            return Err(Error::LoraName { name: name.to_owned() });
        }
        let branch = |(site, factors)| Ok::<_, Error>((site, Branch::new(known.len(), factors)?));
        let layers: Vec<(Arc<Site>, Branch)> = layers.into_iter().map(branch).collect::<Result<_>>()?;
        for (site, branch) in layers {
            write(&site.branches).push(branch);
        }
        known.push(Known {
            name: name.to_owned(),
            as_loaded,
        });
        Ok(())
    }

    /// The LoRAs that a prompt asks for.
    pub fn choose(&self, wanted: &LoraUse) -> plugin_api::Result<LoraSet> {
        let known = read(&self.shelf.known);
        let number = |name: &String| {
            known.iter().position(|known| known.name == *name).ok_or_else(|| {
                let names: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
                let held = match names.is_empty() {
                    true => "none".to_owned(),
                    false => format!("`{}`", names.join("`, `")),
                };
                plugin_api::Error::unsupported(format!("no LoRA `{name}` is loaded: this model holds {held}"))
            })
        };
        match wanted {
            LoraUse::AsLoaded => Ok(known
                .iter()
                .enumerate()
                .filter_map(|(number, known)| known.as_loaded.then_some(number))
                .collect()),
            LoraUse::Off => Ok(LoraSet::default()),
            LoraUse::Only(names) => names.iter().map(number).collect(),
        }
    }

    /// Sets the LoRAs of the following passes, until the returned value is dropped.
    pub fn enter(&self, plan: LoraPlan) -> Entered {
        self.shelf.current.enter(plan)
    }

    /// The layers that these LoRAs change, and the factors of each.
    pub fn changes(&self, of: &LoraSet) -> Vec<(Arc<Site>, Vec<Factors>)> {
        let factors = |site: &Site| -> Vec<Factors> {
            let branches = read(&site.branches);
            let mine = branches.iter().filter(|branch| of.has(branch.lora));
            mine.map(|branch| branch.factors.clone()).collect()
        };
        let sites = read(&self.shelf.sites);
        let all = sites.values().map(|site| (site.clone(), factors(site)));
        all.filter(|(_, factors)| !factors.is_empty()).collect()
    }

    /// Bytes of all factors and of their packed copies.
    pub fn bytes(&self) -> u64 {
        let of = |t: &Tensor| (t.elem_count() * t.dtype().size_in_bytes()) as u64;
        let sites = read(&self.shelf.sites);
        let of_site = |site: &Arc<Site>| -> u64 {
            let branches = read(&site.branches);
            let fixed = branches.iter().flat_map(|it| it.fixed.iter().flatten());
            let factors = branches.iter().map(|it| of(&it.factors.a) + of(&it.factors.b));
            factors.chain(fixed.map(|matrix| matrix.bytes() as u64)).sum()
        };
        sites.values().map(of_site).sum()
    }
}

impl Site {
    /// Whether the current pass adds nothing in this layer.
    pub fn is_idle(&self) -> bool {
        let branches = read(&self.branches);
        let used = |plan: &LoraPlan| branches.iter().any(|branch| plan.rows(branch.lora).is_some());
        branches.is_empty() || !self.current.plan().is_some_and(|plan| used(&plan))
    }

    /// Adds the current pass's LoRAs of `x` (…, in) to `y` (…, out).
    pub fn add_to(&self, y: Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
        let branches = read(&self.branches);
        if branches.is_empty() {
            return Ok(y);
        }
        let Some(plan) = self.current.plan() else {
            return Ok(y);
        };
        let used: Vec<_> = branches
            .iter()
            .filter_map(|branch| Some((branch, plan.rows(branch.lora)?)))
            .collect();
        if used.is_empty() {
            return Ok(y);
        }
        let rows = x.elem_count() / self.inputs.max(1);
        if plan.tokens().is_some_and(|tokens| tokens != rows) {
            let name = &self.name;
            candle_core::bail!(
                "`{name}` got {rows} tokens in a pass whose LoRAs are set for {:?}",
                plan.tokens()
            )
        }
        let (dims, dtype) = (y.dims().to_vec(), y.dtype());
        let x = x.reshape((rows, self.inputs))?.to_dtype(DType::F32)?;
        let mut y = y.reshape((rows, self.outputs))?.to_dtype(DType::F32)?;
        for (branch, rows) in used {
            y = match rows {
                None => (y + branch.forward(&x)?)?,
                Some(rows) => y.index_add(rows, &branch.forward(&x.index_select(rows, 0)?)?, 0)?,
            };
        }
        y.to_dtype(dtype)?.reshape(dims)
    }
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} inputs, {} outputs", self.inputs, self.outputs)
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// The error for an unsupported setting.
fn refused(path: &Path, setting: &str, got: impl std::fmt::Display) -> Error {
    Error::LoraSetting {
        path: PathBuf::from(path),
        setting: setting.to_owned(),
        got: got.to_string(),
    }
}
