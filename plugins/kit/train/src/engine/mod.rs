//! The interface of the training engine: gradients and updates, not the organisation of a run.

mod adapter;
mod counted;
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

pub use counted::Counted;
use plugin_api::{Clip, Result};
pub use read::not_learnt;
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
/// The same calls give the same bits, whatever the timing of threads.
pub trait Engine: Send {
    fn facts(&self) -> Facts;

    /// Adds the gradient of these rows' loss, divided by `items`, to the gradient so far.
    ///
    /// `items` is the number of learnt tokens of the whole step. The returned loss is a sum over the rows' own learnt
    /// tokens, not divided. Rows without a learnt token are allowed and add nothing.
    fn learn(&mut self, rows: &[Row], items: u64) -> Result<Sums>;

    /// The gradients of all learnt parameters, one after the other in one buffer, in the order of
    /// [`Facts::parameters`]; behind them, if a part that hears is learnt, the number of rows with a clip. All processes
    /// of a run have the same layout, so summing this buffer is all they exchange.
    fn gradient(&mut self) -> &mut [f32];

    /// Clips the gradient's norm as the settings say, updates the parameters at this rate, and clears the gradient.
    /// Parts that hear are left as they are, with their states, if no row of the step had a clip.
    ///
    /// A gradient that is not finite changes nothing: [`StepReport::grad_norm`] says so, and the caller stops.
    fn step(&mut self, rate: f64) -> Result<StepReport>;

    /// Clears the gradient, for example to retry a batch in smaller parts.
    fn forget(&mut self);

    /// The loss of each row, without dropout or learning.
    fn evaluate(&mut self, rows: &[Row]) -> Result<Vec<Sums>>;

    /// The logits of a row: (tokens, vocabulary).
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

    /// The vectors of a clip, concatenated; none if the tower or projector is learnt, since then they change with each
    /// step. They may be cached for the whole run, and longer under the key [`Facts::hearing`].
    fn hear(&mut self, clip: &Clip) -> Result<Option<Vec<f32>>>;

    /// The number of placeholders of a clip among the tokens.
    fn places(&self, clip: &Clip) -> Result<usize>;

    /// Writes what was learnt into an existing folder: a PEFT folder's two files, or a checkpoint in the names of the
    /// base's own files. Returns the names of the files, each of which is synced.
    fn save(&self, folder: &Path) -> Result<Vec<String>>;

    /// Writes what else is needed for resuming into one safetensors file: moments, the number of steps, dropout's
    /// position in its random numbers, and exact weights if the saved ones are rounded.
    fn save_state(&self, file: &Path) -> Result<()>;

    /// Resumes from the files of [`Engine::save`] and [`Engine::save_state`].
    fn restore(&mut self, folder: &Path, state: &Path) -> Result<()>;

    /// Steps done, including those of earlier runs that this one resumes.
    fn steps_done(&self) -> u64;
}

/// Sums over learnt tokens, to be divided by their number later.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Sums {
    /// Of -log p; with label smoothing, of the smoothed loss.
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
    /// The gradient's norm before clipping; not finite if a value in it was not.
    pub grad_norm: f64,
    /// The factor of clipping.
    pub factor: f64,
}

/// What is learnt, and the memory that it takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Facts {
    /// In the order of [`Engine::gradient`].
    pub parameters: Vec<Parameter>,
    /// Values of all parameters of the model, learnt or not.
    pub values: u64,
    /// The types of weights, products, gradients and states, in words.
    pub precision: String,
    /// Modules that have LoRA factors, in the order of their layers.
    pub targets: Vec<String>,
    /// The key, besides the clip, under which vectors of [`Engine::hear`] may be cached on disk. None without audio,
    /// or if the tower is learnt.
    pub hearing: Option<String>,
    /// The placeholder token of clips.
    pub placeholder: Option<u32>,
    /// Tokens in the vocabulary; larger ids are refused.
    pub vocabulary: usize,
    /// The longest row.
    pub context: usize,
    pub memory: MemoryPlan,
}

/// Bytes by use.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct MemoryPlan {
    /// Weights, learnt ones included.
    pub weights: u64,
    pub gradients: u64,
    pub states: u64,
    /// Activations kept for each token of a batch.
    pub token: u64,
    /// Memory of a pass that does not depend on the number of tokens.
    pub buffers: u64,
}

impl MemoryPlan {
    /// Bytes at the peak of a step whose largest batch has this many tokens.
    pub fn peak(&self, tokens: u64) -> u64 {
        self.weights + self.gradients + self.states + self.buffers + self.token * tokens
    }
}

/// One learnt tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// The name in the file that it is saved in.
    pub name: String,
    pub shape: Vec<usize>,
    /// Whether weight decay applies to it.
    pub decayed: bool,
}

/// An error of reading a checkpoint, as it crosses the boundary.
pub(crate) fn failed(error: nn::Error) -> plugin_api::Error {
    error.into_plugin_error()
}
