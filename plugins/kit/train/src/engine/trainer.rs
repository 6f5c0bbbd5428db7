//! The engine for a checkpoint.

use super::load::Loader;
use super::net::Net;
use super::parameters::{Parameters, Pass};
use super::row::Row;
use super::{Engine, EngineSettings, Facts, MemoryPlan, Method, Precision, StepReport, Sums};
use crate::lora::folder;
use crate::optim::Optim;
use nn::Blueprint;
use plugin_api::{Clip, Code, Error, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

pub struct Trainer {
    pub(super) settings: EngineSettings,
    pub(super) net: Net,
    pub(super) parameters: Parameters,
    /// As [`Engine::gradient`] says.
    pub(super) gradient: Vec<f32>,
    pub(super) optim: Optim,
    pub(super) base: Base,
    facts: Facts,
    placeholder: Option<u32>,
    /// Batches so far in the run: part of dropout's seed.
    pub(super) batches: u64,
}

/// What saving needs to know about the base.
pub(super) struct Base {
    pub folder: PathBuf,
    pub weights: nn::Weights,
}

impl Trainer {
    /// Reads the checkpoint of a blueprint. `placeholder` is the token that stands for audio.
    pub fn new(blueprint: &Blueprint, placeholder: Option<u32>, settings: &EngineSettings) -> Result<Trainer> {
        kernels::memory::keep_what_is_freed();
        let mut settings = settings.clone();
        if let Some(adapter) = &settings.adapter {
            if settings.method == Method::Full {
                let message = "`adapter` needs the method lora or qlora, not full";
                return Err(Error::new(Code::SETTINGS, message));
            }
            settings.lora = folder::read_settings(adapter)?;
        }
        if settings.method == Method::Full && blueprint.model.any_in_four_bits() {
            return Err(super::not_learnt(&format!("`{}`", blueprint.model.folder().display())));
        }
        let mut loader = Loader::new(&settings, &blueprint.model)?;
        let net = loader.net(blueprint)?;
        if settings.method == Method::Full {
            check_places(&loader.parameters, &blueprint.model)?;
        }
        let narrow = settings.precision == Precision::PureBf16 && settings.method == Method::Full;
        let (parameters, values, hit) = (loader.parameters, loader.values, loader.hit);
        let frozen = loader.frozen;
        let optim = Optim::new(&settings.optim, &parameters, narrow);
        let learnt = parameters.values.len() as u64;
        let memory = MemoryPlan {
            weights: 4 * learnt + frozen.values().sum::<u64>(),
            gradients: 4 * learnt,
            states: optim.bytes(),
            token: token_bytes(blueprint, &settings),
            buffers: 4 * 96 * blueprint.vocabulary as u64,
        };
        let types: Vec<String> = frozen
            .iter()
            .map(|(name, bytes)| format!("{name} ({} MB)", bytes >> 20))
            .collect();
        let products = match settings.precision {
            Precision::Fp32 => "fp32 products",
            Precision::Bf16 => "products of bf16, summed in fp32",
            Precision::PureBf16 => "products of bf16, and bf16 weights and states",
        };
        let precision = match types.is_empty() {
            true => format!("all weights learnt, {products}"),
            false => format!("{products}; frozen weights: {}", types.join(", ")),
        };
        let facts = Facts {
            parameters: parameters
                .learnt
                .iter()
                .map(|learnt| learnt.parameter.clone())
                .collect(),
            values,
            precision,
            targets: hit,
            hearing: net
                .hears_alike()
                .then(|| format!("{}", blueprint.model.folder().display())),
            placeholder,
            vocabulary: net.vocabulary,
            context: net.context,
            memory,
        };
        Ok(Trainer {
            gradient: kernels::memory::zeros(parameters.values.len() + usize::from(parameters.hear())),
            base: Base {
                folder: blueprint.model.folder().to_owned(),
                weights: blueprint.model.clone(),
            },
            settings,
            net,
            parameters,
            optim,
            facts,
            placeholder,
            batches: 0,
        })
    }

    fn pass(&self, learning: bool) -> Pass<'_> {
        let seed = self.settings.seed;
        Pass {
            values: &self.parameters.values,
            rounded: self.settings.precision != Precision::Fp32,
            draws: learning.then(|| super::draws::scattered(seed ^ super::draws::scattered(self.batches))),
        }
    }

    /// The gradient by parameter name.
    pub(crate) fn named_gradients(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.parameters.learnt.iter().map(|learnt| {
            let one = &learnt.parameter;
            (&one.name[..], &one.shape[..], &self.gradient[learnt.range.clone()])
        })
    }

    /// The values by parameter name.
    pub(crate) fn named_values(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.parameters.learnt.iter().map(|learnt| {
            let one = &learnt.parameter;
            (
                &one.name[..],
                &one.shape[..],
                &self.parameters.values[learnt.range.clone()],
            )
        })
    }
}

/// Refuses to learn tensors that no checkpoint of the same files could hold: those of a GGUF file, and those in blocks.
fn check_places(parameters: &Parameters, model: &nn::Weights) -> Result<()> {
    let names: HashSet<String> = match model.folder().is_file() {
        true => HashSet::new(),
        false => model.root().names().into_iter().collect(),
    };
    let mut learnt = parameters.learnt.iter().map(|learnt| &learnt.parameter.name);
    match learnt.find(|name| !names.contains(*name)) {
        None => Ok(()),
        Some(name) => {
            let folder = model.folder().display();
            let message = format!("`{folder}` does not store `{name}` in a type that can be learnt");
            let help = "train a LoRA (`--method lora`), or give the original checkpoint as `weights`";
            Err(Error::new(Code::SETTINGS, message).help(help))
        }
    }
}

/// Bytes that a pass keeps for each token.
fn token_bytes(of: &Blueprint, settings: &EngineSettings) -> u64 {
    let heads = of.heads;
    let kept = 3 * of.hidden + 2 * heads.queries * heads.size + 2 * heads.keys * heads.size + 2 * of.inner;
    let layers = of.layers.len();
    4 * match settings.gradient_checkpointing {
        true => (layers * of.hidden + 2 * kept) as u64,
        false => ((layers + 1) * kept) as u64,
    }
}

impl Engine for Trainer {
    fn facts(&self) -> Facts {
        self.facts.clone()
    }

    fn learn(&mut self, rows: &[Row], items: u64) -> Result<Sums> {
        // A row from which nothing is learnt counts: its clip passes through the reference's tower all the same, and
        // gives a gradient of zeros.
        let heard = rows
            .iter()
            .filter(|row| row.sounds.iter().any(|sound| sound.clip().is_some()));
        if let Some(rows) = self.gradient.get_mut(self.parameters.values.len()) {
            *rows += heard.count() as f32;
        }
        let some: Vec<&Row> = rows.iter().filter(|row| row.learnt() > 0).collect();
        let sums = Sums {
            loss: 0.0,
            items: some.iter().map(|row| row.learnt()).sum(),
        };
        if some.is_empty() {
            return Ok(sums);
        }
        if items == 0 {
            return Err(Error::new(
                Code::DATA,
                "a step has no learnt token to divide its loss by",
            ));
        }
        self.batches += 1;
        let mut gradient = std::mem::take(&mut self.gradient);
        let learning = Some((items as f64, &mut gradient[..]));
        let checkpointing = self.settings.gradient_checkpointing;
        let losses = self
            .net
            .learn(&self.pass(true), &some, self.placeholder, checkpointing, learning);
        self.gradient = gradient;
        Ok(Sums {
            loss: losses?.iter().sum(),
            ..sums
        })
    }

    fn gradient(&mut self) -> &mut [f32] {
        &mut self.gradient
    }

    fn step(&mut self, rate: f64) -> Result<StepReport> {
        let (gradient, rows_with_a_clip) = self.gradient.split_at(self.parameters.values.len());
        let heard = rows_with_a_clip.iter().any(|rows| *rows > 0.0);
        let report = self.optim.step(&mut self.parameters, gradient, rate, heard);
        self.forget();
        Ok(report)
    }

    fn forget(&mut self) {
        self.gradient.fill(0.0);
    }

    fn evaluate(&mut self, rows: &[Row]) -> Result<Vec<Sums>> {
        let some: Vec<&Row> = rows.iter().filter(|row| row.learnt() > 0).collect();
        let losses = match some.is_empty() {
            true => Vec::new(),
            false => self.net.learn(&self.pass(false), &some, self.placeholder, true, None)?,
        };
        let mut losses = losses.into_iter();
        let sums = rows.iter().map(|row| Sums {
            items: row.learnt(),
            loss: if row.learnt() > 0 {
                losses.next().unwrap_or(f64::NAN)
            } else {
                0.0
            },
        });
        Ok(sums.collect())
    }

    fn logits(&mut self, row: &Row) -> Result<Vec<f32>> {
        self.net.logits(&self.pass(false), row, self.placeholder)
    }

    fn answer(
        &mut self,
        row: &Row,
        tokens: usize,
        next: &mut dyn FnMut(&mut [f32]) -> Result<Option<u32>>,
    ) -> Result<()> {
        let prompt = self.net.beginning(row, tokens, self.placeholder)?;
        self.net.answer(&self.pass(false), &prompt, self.placeholder, next)
    }

    fn hear(&mut self, clip: &Clip) -> Result<Option<Vec<f32>>> {
        self.net.hear(&self.pass(false), clip)
    }

    fn places(&self, clip: &Clip) -> Result<usize> {
        self.net.places(clip)
    }

    fn save(&self, folder: &Path) -> Result<Vec<String>> {
        self.save_weights(folder)
    }

    fn save_state(&self, file: &Path) -> Result<()> {
        self.write_state(file)
    }

    fn restore(&mut self, folder: &Path, state: &Path) -> Result<()> {
        self.read_state(folder, state)
    }

    fn steps_done(&self) -> u64 {
        self.optim.steps
    }
}
