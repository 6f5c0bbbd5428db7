//! Models that tasks and judges may ask, by the roles they play: a judge's `grader`, for instance.
//!
//! A task or judge holds no model of its own. It asks the host for a role, and `--role` says which model plays it.

use super::store::score::{Grader, Graders};
use plugin_api::client::ModelClient;
use plugin_api::{Callbacks, Code, Error, Parcel, Prompt, Result, Silent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A model that plays a role.
pub struct Player {
    pub client: ModelClient,
    /// Its registry name, and the hash of everything that its answers depend on.
    pub grader: Grader,
}

/// The models of a command's roles, and its wish to stop.
#[derive(Default)]
pub struct Roles {
    pub models: BTreeMap<String, Player>,
    pub stop: Arc<AtomicBool>,
}

impl Roles {
    /// Who plays which role.
    pub fn graders(&self) -> Graders {
        let one = |(role, player): (&String, &Player)| (role.clone(), player.grader.clone());
        self.models.iter().map(one).collect()
    }

    /// How many prompts the role models work on at a time, all together.
    pub fn at_once(&self) -> usize {
        1
    }

    /// How many threads should show cases to a judge that takes so many at a time.
    pub fn threads_for(&self, batch: u32) -> usize {
        (batch.clamp(1, 32) as usize).max(self.at_once())
    }
}

impl Callbacks for Roles {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        let Some(role) = what.strip_prefix("generate:") else {
            return Silent.ask(what, input);
        };
        let player = self.models.get(role).ok_or_else(|| {
            let message = format!("no model plays the role `{role}` that was asked for");
            Error::new(Code::SETTINGS, message).help(format!("give one with `--role {role}=MODEL`"))
        })?;
        let prompt = Prompt {
            clips: input.clips.clone(),
            ..input.read()?
        };
        Parcel::of(&player.client.reply(&prompt, self)?)
    }

    fn emit(&self, _what: &str, _note: Parcel) -> bool {
        !self.stop_asked()
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Roles that note which of them one call asks.
pub struct Noted<'a> {
    roles: &'a Roles,
    asked: Mutex<BTreeSet<String>>,
}

impl<'a> Noted<'a> {
    pub fn new(roles: &'a Roles) -> Self {
        Noted {
            roles,
            asked: Mutex::default(),
        }
    }

    /// The models that were asked. A role that nobody plays is noted as well: a model that plays it later changes the score.
    pub fn graders(&self) -> Graders {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let player = |role: &String| self.roles.models.get(role).map(|player| player.grader.clone());
        asked
            .iter()
            .map(|role| (role.clone(), player(role).unwrap_or_default()))
            .collect()
    }
}

impl Callbacks for Noted<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        if let Some(role) = what.strip_prefix("generate:") {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(role.to_owned());
        }
        self.roles.ask(what, input)
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        self.roles.emit(what, note)
    }

    fn stop_asked(&self) -> bool {
        self.roles.stop_asked()
    }
}
