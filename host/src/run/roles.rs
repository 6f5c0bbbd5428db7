//! Models that tasks and judges may ask, by the roles they play: a judge's `grader`, for instance.
//!
//! A task or judge holds no model of its own. It asks the host for a role, and `--role` says which model plays it.

use plugin_api::client::ModelClient;
use plugin_api::{Callbacks, Code, Error, Parcel, Prompt, Result, Silent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The models of a command's roles, and its wish to stop.
#[derive(Default)]
pub struct Roles {
    pub models: BTreeMap<String, ModelClient>,
    pub stop: Arc<AtomicBool>,
}

impl Callbacks for Roles {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        let Some(role) = what.strip_prefix("generate:") else {
            return Silent.ask(what, input);
        };
        let model = self.models.get(role).ok_or_else(|| {
            let message = format!("no model plays the role `{role}` that was asked for");
            Error::new(Code::SETTINGS, message).help(format!("give one with `--role {role}=MODEL`"))
        })?;
        let prompt = Prompt {
            clips: input.clips.clone(),
            ..input.read()?
        };
        Parcel::of(&model.reply(&prompt, self)?)
    }

    fn emit(&self, _what: &str, _note: Parcel) -> bool {
        !self.stop_asked()
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
