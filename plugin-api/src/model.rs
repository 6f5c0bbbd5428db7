//! Models: prompts in, replies out.

use crate::adapter::{unknown_method, Adapter};
use crate::call::{Call, Callbacks, Jobs};
use crate::lessons::Lessons;
use crate::parcel::{Packed, Parcel};
use crate::{Code, Error, Learnt, Lesson, LessonTokens, Memory, ModelCard, Plan, Prompt, PromptTokens, Reply, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A model: it answers prompts.
///
/// `card` and `reply` are all it needs. Everything else has a default that either does with those two or
/// answers [`crate::Code::UNSUPPORTED`].
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
    /// What it says of itself. Asked often, so what takes time is found out beforehand.
    fn card(&self) -> ModelCard;

    /// Answers one prompt. Long work asks `call.check()` now and then. What the card rules out never comes here.
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
        Err(unsupported("show a prompt's tokens"))
    }

    /// The tokens that a lesson becomes, and which of them are learnt.
    fn lesson_tokens(&mut self, _lesson: &Lesson) -> Result<LessonTokens> {
        Err(unsupported("show a lesson's tokens"))
    }

    /// The same by something that needs no model, so that many lessons are cut at once. Since 1.2; asked for once, when the
    /// model is made. Without it lessons are cut one by one.
    fn lesson_cutter(&self) -> Option<LessonCutter> {
        None
    }

    /// Learns, inside the plugin, since that is where its tensors are.
    fn learn(&mut self, _plan: &Plan, _lessons: &mut Lessons) -> Result<Learnt> {
        Err(unsupported("learn"))
    }

    /// Reads a LoRA folder in PEFT's format and keeps it under a name for [`Prompt::lora`].
    fn add_lora(&mut self, _name: &str, _folder: &Path) -> Result<()> {
        Err(unsupported("hold LoRAs"))
    }

    /// The memory it holds.
    fn memory(&self) -> Memory {
        Memory::default()
    }

    /// Recomputes a recorded reference case and says how far it is from it. Since 1.1.
    fn trace(&mut self, _request: &Value) -> Result<Value> {
        Err(unsupported("trace its inner values"))
    }

    /// Does what is no answer: `merge`, `convert`, or any other verb that this model knows; what a verb asks for and
    /// gives back is between it and who says it. Long work asks `call.check()` now and then and may tell
    /// `call.progress(…)`. A verb that isn't known is [`crate::Code::UNSUPPORTED`]. Since 1.2.
    fn work(&mut self, verb: &str, _request: &Value, _call: &mut Call) -> Result<Value> {
        Err(unsupported(&format!("do `{verb}`")))
    }

    /// Does commands of [`Model::work`] that must not wait for [`Model::serve`], on any thread. Asked for once, when the model
    /// is made; a command that it answers with [`crate::Code::UNSUPPORTED`] goes to the model.
    fn commander(&self) -> Option<Commander> {
        None
    }
}

/// What [`Model::commander`] gives.
pub type Commander = Arc<dyn Fn(&str, &Value) -> Result<Value> + Send + Sync>;

fn unsupported(what: &str) -> Error {
    Error::unsupported(format!("this model can't {what}"))
}

/// What `add_lora` is called with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoraRequest {
    pub name: String,
    pub folder: PathBuf,
}

/// What `work` is called with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkRequest {
    pub verb: String,
    #[serde(default)]
    pub request: Value,
}

/// What [`Model::lesson_cutter`] gives.
pub type LessonCutter = Arc<dyn Fn(&Lesson) -> Result<LessonTokens> + Send + Sync>;

/// The methods of a model by their names on the wire.
pub(crate) struct ModelAdapter {
    model: Mutex<Box<dyn Model>>,
    cutter: Option<LessonCutter>,
    commander: Option<Commander>,
}

impl ModelAdapter {
    pub fn new(model: Box<dyn Model>) -> Self {
        ModelAdapter {
            cutter: model.lesson_cutter(),
            commander: model.commander(),
            model: Mutex::new(model),
        }
    }
}

impl Adapter for ModelAdapter {
    fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
        if let ("lesson_tokens", Some(cut)) = (method, &self.cutter) {
            return Parcel::of(&cut(&Lesson::unpack(input)?)?);
        }
        if let ("work", Some(command)) = (method, &self.commander) {
            let WorkRequest { verb, request } = input.read()?;
            match command(&verb, &request) {
                Err(error) if error.code == Code::UNSUPPORTED => {}
                done => return Parcel::of(&done?),
            }
        }
        // A panic poisons the whole adapter one layer further out, so the lock's own poison says nothing new.
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "card" => Parcel::of(&model.card()),
            "reply" => {
                let prompt = Prompt::unpack(input)?;
                model.card().can_answer(&prompt)?;
                Parcel::of(&model.reply(&prompt, &mut Call::new(host))?)
            }
            "serve" => {
                let card = model.card();
                model.serve(&mut Jobs::new(host).of(card))?;
                Ok(Parcel::default())
            }
            "tokens" => Parcel::of(&model.tokens(&Prompt::unpack(input)?)?),
            "lesson_tokens" => Parcel::of(&model.lesson_tokens(&Lesson::unpack(input)?)?),
            "learn" => {
                let plan: Plan = input.read()?;
                Parcel::of(&model.learn(&plan, &mut Lessons::new(host))?)
            }
            "add_lora" => {
                let request: LoraRequest = input.read()?;
                model.add_lora(&request.name, &request.folder)?;
                Ok(Parcel::default())
            }
            "memory" => Parcel::of(&model.memory()),
            "trace" => Parcel::of(&model.trace(&input.read()?)?),
            "work" => {
                let WorkRequest { verb, request } = input.read()?;
                Parcel::of(&model.work(&verb, &request, &mut Call::new(host))?)
            }
            _ => Err(unknown_method("model", method)),
        }
    }
}
