//! What a training run asks of a model, and nothing of how a run is organised.

pub(crate) mod draws;
pub(crate) mod files;
mod load;
mod net;
pub(crate) mod parameters;
mod read;
mod row;
mod saved;
mod settings;
pub(crate) mod stored;
mod trainer;

use plugin_api::{Clip, Result};
pub use row::{Row, Sound};
use serde::Serialize;
pub use settings::{EngineSettings, LoraSettings, Method, OptimSettings, Optimiser, Precision};
use std::path::Path;
pub use trainer::Trainer;

/// A model that learns.
///
/// One step of a run is: [`Engine::learn`] for each batch, with the number of learnt tokens of all batches and all
/// processes; [`Engine::gradient`] summed over the processes; [`Engine::step`].
///
/// The same calls give the same bytes, whatever the timing of threads.
pub trait Engine: Send {
    /// What is learnt and what memory it takes.
    fn facts(&self) -> Facts;

    /// Adds the gradient of these rows' loss, divided by `items`, to the gradient so far.
    ///
    /// `items` is the number of learnt tokens of the whole step. The loss that comes back is a sum over the rows' own
    /// learnt tokens, not divided by anything. Rows without a learnt token are allowed and add nothing.
    fn learn(&mut self, rows: &[Row], items: u64) -> Result<Sums>;

    /// The gradients of all learnt parameters, one after the other in one buffer, in the order of
    /// [`Facts::parameters`]. It is the same on all processes of a run, so one sum over it is all they exchange.
    fn gradient(&mut self) -> &mut [f32];

    /// Cuts the gradient to the longest that settings allow, updates the parameters at this rate, and forgets the gradient.
    ///
    /// A gradient that is not finite changes nothing: [`StepReport::grad_norm`] says so, and the caller stops.
    fn step(&mut self, rate: f64) -> Result<StepReport>;

    /// Forgets the gradient so far, as when a batch has to be tried again in smaller ones.
    fn forget(&mut self);

    /// The loss of each row, without dropout, and without learning from it.
    fn evaluate(&mut self, rows: &[Row]) -> Result<Vec<Sums>>;

    /// The logits of a row, one after the other: (tokens, vocabulary).
    fn logits(&mut self, row: &Row) -> Result<Vec<f32>>;

    /// Goes on behind the first `tokens` tokens of a row, without dropout. `next` gets the logits behind the last token and
    /// names the one that follows; the answer ends when it names none, or where the model's context is full.
    ///
    /// It changes nothing: what is learnt afterwards is the same as without it.
    fn answer(
        &mut self,
        row: &Row,
        tokens: usize,
        next: &mut dyn FnMut(&mut [f32]) -> Result<Option<u32>>,
    ) -> Result<()>;

    /// Vectors that a clip becomes, one after the other; none where the tower or what follows it is learnt, since these
    /// change from step to step. They may be kept for the whole run, and by [`Facts::hearing`] beyond it.
    fn hear(&mut self, clip: &Clip) -> Result<Option<Vec<f32>>>;

    /// The number of placeholders that a clip takes among the tokens.
    fn places(&self, clip: &Clip) -> Result<usize>;

    /// Writes what was learnt into a folder that is there: a PEFT folder's two files, or a checkpoint in the names of the
    /// base's own files. Gives the names of the files written, each of which is synced.
    fn save(&self, folder: &Path) -> Result<Vec<String>>;

    /// Writes what else resuming needs into one safetensors file: moments, steps done, the place in the random draws of
    /// dropout, and the exact weights where the saved ones are rounded.
    fn save_state(&self, file: &Path) -> Result<()>;

    /// Goes on from what [`Engine::save`] and [`Engine::save_state`] wrote.
    fn restore(&mut self, folder: &Path, state: &Path) -> Result<()>;

    /// Steps done, over all runs that this one goes on from.
    fn steps_done(&self) -> u64;
}

/// Sums over learnt tokens, to be divided by their number when all of them are known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Sums {
    /// Of -log p; with label smoothing, of what is learnt instead.
    pub loss: f64,
    /// Learnt tokens.
    pub items: u64,
}

impl std::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.loss += other.loss;
        self.items += other.items;
    }
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct StepReport {
    /// The gradient's length before it was cut; not finite if a value in it was not.
    pub grad_norm: f64,
    /// What it was multiplied by.
    pub factor: f64,
}

/// What is learnt and what memory it takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Facts {
    /// In the order of [`Engine::gradient`].
    pub parameters: Vec<Parameter>,
    /// Values of all parameters of the model, learnt or not.
    pub values: u64,
    /// In words: what weights, products, gradients and states are kept as.
    pub precision: String,
    /// Modules that have LoRA factors, in the order of their layers.
    pub targets: Vec<String>,
    /// What the vectors of [`Engine::hear`] depend on besides the clip: a key for those that are kept on disk. None where
    /// nothing is heard, or where what hears is learnt.
    pub hearing: Option<String>,
    /// The token whose places clips take.
    pub placeholder: Option<u32>,
    /// Tokens in the vocabulary; greater ids are refused.
    pub vocabulary: usize,
    /// The longest row.
    pub context: usize,
    pub memory: MemoryPlan,
}

/// Bytes by what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct MemoryPlan {
    /// Weights, learnt ones included.
    pub weights: u64,
    pub gradients: u64,
    pub states: u64,
    /// Activations kept for each token of a batch.
    pub token: u64,
    /// What a pass needs besides, whatever its tokens.
    pub buffers: u64,
}

impl MemoryPlan {
    /// Bytes at the height of a step whose largest batch has this many tokens.
    pub fn peak(&self, tokens: u64) -> u64 {
        self.weights + self.gradients + self.states + self.buffers + self.token * tokens
    }
}

/// One learnt tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// As the file that it is saved in calls it.
    pub name: String,
    pub shape: Vec<usize>,
    /// Whether weight decay is for it.
    pub decayed: bool,
}

/// An error of reading a checkpoint, as it crosses the boundary.
pub(crate) fn failed(error: nn::Error) -> plugin_api::Error {
    error.into_plugin_error()
}
