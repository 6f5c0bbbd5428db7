//! Models: prompts in, replies out.

mod card;
mod estimate;
mod jobs;
mod prompt;
mod reply;

pub use card::{Constraint, ModelCard, Reads};
#[cfg(feature = "host")]
pub(crate) use estimate::TrainingRequest;
pub use estimate::WORD as ESTIMATE;
pub use estimate::{make_estimate, Estimate, EstimateRegistration, MakeTrainingEstimate, TrainingEstimate, Workload};
pub(crate) use jobs::PullRequest;
pub use jobs::{Answers, Job, Jobs, Pulled};
#[cfg(feature = "host")]
pub(crate) use jobs::{PullAnswer, ReplyNote};
pub use prompt::{LoraUse, Message, Part, Prompt, Role, Sampling, Want};
pub use reply::{Alternative, Finish, Memory, OptionScore, Reply, Timing, TokenScore, Usage};

use crate::training::{Learnt, Lesson, LessonTokens, Lessons, Plan, PromptTokens};
use crate::wire::{unknown_method, Adapter, Callbacks, Envelope, Packed};
use crate::{Call, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A model: it answers prompts.
///
/// `card` and `reply` are all it needs. Everything else has a default that uses only these two, or answers
/// [`crate::Code::NOT_IMPLEMENTED`].
///
/// ```
/// use plugin_api::{register_model, Call, Model, ModelCard, Prompt, Reply, Result};
///
/// struct Echo;
///
/// impl Model for Echo {
///     fn card(&self) -> ModelCard {
///         ModelCard::text("echo")
///     }
///
///     fn reply(&mut self, prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
///         Ok(Reply::text(prompt.last_user_text()))
///     }
/// }
///
/// register_model!("echo", "Repeats the last user message", |_settings| Ok(Echo));
/// plugin_api::export_plugin!();
/// # fn main() {}
/// ```
pub trait Model: Send {
    /// The model's description. It is asked for often, so anything slow should be computed beforehand.
    fn card(&self) -> ModelCard;

    /// Answers one prompt. Long work calls `call.check()` from time to time. Prompts that the card rules out never
    /// come here.
    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply>;

    /// Answers prompts until there are no more. A model that works on several at a time writes its own.
    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        while let Some(job) = jobs.next() {
            let mut call = jobs.call(&job);
            let reply = self.reply(&job.prompt, &mut call);
            jobs.done(job.id, reply);
        }
        Ok(())
    }

    /// The tokens that a prompt becomes.
    fn tokens(&mut self, _prompt: &Prompt) -> Result<PromptTokens> {
        Err(not_implemented("show a prompt's tokens"))
    }

    /// The tokens that a lesson becomes, and which of them are learnt.
    fn lesson_tokens(&mut self, _lesson: &Lesson) -> Result<LessonTokens> {
        Err(not_implemented("show a lesson's tokens"))
    }

    /// A tokeniser of lessons that needs no model, so that many lessons are tokenised in parallel. Asked for once,
    /// when the model is created. Without it lessons are tokenised one by one, as are those with
    /// [`Lesson::clip_samples`].
    fn lesson_cutter(&self) -> Option<LessonCutter> {
        None
    }

    /// Trains the model inside the plugin, since that is where its tensors are.
    fn learn(&mut self, _plan: &Plan, _lessons: &mut Lessons) -> Result<Learnt> {
        Err(not_implemented("learn"))
    }

    /// Reads a LoRA folder in PEFT's format and keeps it under a name for [`Prompt::lora`].
    fn add_lora(&mut self, _name: &str, _folder: &Path) -> Result<()> {
        Err(not_implemented("hold LoRAs"))
    }

    /// The memory it holds.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// Recomputes a recorded reference case and says how far it is from it.
    fn replay(&mut self, _case: &Value) -> Result<Value> {
        Err(not_implemented("replay recorded cases"))
    }

    /// Runs a maintenance command such as `merge` or `convert`. Each command defines its own request and answer. Long
    /// work calls `call.check()` from time to time and may report `call.progress(…)`. An unknown command is
    /// [`crate::Code::UNSUPPORTED`].
    fn run_command(&mut self, command: &str, _request: &Value, _call: &mut Call) -> Result<Value> {
        Err(not_implemented(&format!("run `{command}`")))
    }

    /// Runs commands of [`Model::run_command`] that must not wait for [`Model::serve`], on any thread. Asked for once,
    /// when the model is created; a command that it answers with [`crate::Code::UNSUPPORTED`] goes to the model.
    fn commander(&self) -> Option<Commander> {
        None
    }
}

fn not_implemented(what: &str) -> Error {
    Error::not_implemented(format!("this model can't {what}"))
}

/// The input of `add_lora`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoraRequest {
    pub name: String,
    pub folder: PathBuf,
}

/// The input of `run_command`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommandRequest {
    pub command: String,
    #[serde(default)]
    pub request: Value,
}

/// See [`Model::lesson_cutter`].
pub type LessonCutter = Arc<dyn Fn(&Lesson) -> Result<LessonTokens> + Send + Sync>;

/// See [`Model::commander`].
pub type Commander = Arc<dyn Fn(&str, &Value) -> Result<Value> + Send + Sync>;

/// The methods of a model by their names on the wire.
pub(crate) struct ModelAdapter {
    model: Mutex<Box<dyn Model>>,
    /// The last card that the model gave while it was free.
    card: Mutex<ModelCard>,
    cutter: Option<LessonCutter>,
    commander: Option<Commander>,
}

// A panic poisons the whole adapter one layer further out, so the poison of a lock adds nothing.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelAdapter {
    pub fn new(model: Box<dyn Model>) -> Self {
        ModelAdapter {
            cutter: model.lesson_cutter(),
            commander: model.commander(),
            card: Mutex::new(model.card()),
            model: Mutex::new(model),
        }
    }

    /// The card, from the model itself unless it is busy.
    fn card(&self) -> ModelCard {
        let model = match self.model.try_lock() {
            Ok(model) => model,
            Err(TryLockError::Poisoned(poison)) => poison.into_inner(),
            Err(TryLockError::WouldBlock) => return locked(&self.card).clone(),
        };
        self.noted(model.as_ref())
    }

    fn noted(&self, model: &dyn Model) -> ModelCard {
        let card = model.card();
        *locked(&self.card) = card.clone();
        card
    }
}

impl Adapter for ModelAdapter {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        match (method, &self.cutter) {
            ("card", _) => return Envelope::of(&self.card()),
            ("lesson_tokens", Some(cut)) => {
                let lesson = Lesson::unpack(input)?;
                // How many tokens a clip becomes, only the model knows.
                let tokens = match lesson.clip_samples.is_empty() {
                    true => cut(&lesson),
                    false => locked(&self.model).lesson_tokens(&lesson),
                };
                return Envelope::of(&tokens?);
            }
            _ => {}
        }
        if let ("run_command", Some(run)) = (method, &self.commander) {
            let CommandRequest { command, request } = input.read()?;
            match run(&command, &request) {
                Err(error) if error.code == crate::Code::UNSUPPORTED => {}
                done => return Envelope::of(&done?),
            }
        }
        let mut model = locked(&self.model);
        match method {
            "reply" => {
                let prompt = Prompt::unpack(input)?;
                model.card().can_answer(&prompt)?;
                Envelope::of(&model.reply(&prompt, &mut Call::new(host))?)
            }
            "serve" => {
                let card = self.noted(model.as_ref());
                model.serve(&mut Jobs::new(host).of(card))?;
                Ok(Envelope::default())
            }
            "tokens" => Envelope::of(&model.tokens(&Prompt::unpack(input)?)?),
            "lesson_tokens" => Envelope::of(&model.lesson_tokens(&Lesson::unpack(input)?)?),
            "learn" => {
                let plan: Plan = input.read()?;
                Envelope::of(&model.learn(&plan, &mut Lessons::new(host))?)
            }
            "add_lora" => {
                let request: LoraRequest = input.read()?;
                model.add_lora(&request.name, &request.folder)?;
                Ok(Envelope::default())
            }
            "memory" => Envelope::of(&model.memory()),
            "replay" => Envelope::of(&model.replay(&input.read()?)?),
            "run_command" => {
                let CommandRequest { command, request } = input.read()?;
                Envelope::of(&model.run_command(&command, &request, &mut Call::new(host))?)
            }
            _ => Err(unknown_method("model", method)),
        }
    }
}
