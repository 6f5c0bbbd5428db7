//! Models that tasks and judges may ask, by the roles they play: a judge's `grader`, for instance.
//!
//! A task or judge holds no model of its own. It asks the host for a role, and `--role` says which model plays it.

use super::pool::{Copy, HELPERS_DEADLINE, Limits, Pool, kernels_of};
use crate::catalog::{Catalog, Flags};
use crate::failure::Failure;
use crate::run::store::hash::hash_json;
use crate::run::store::score::{Grader, Graders};
use plugin_api::client::ModelClient;
use plugin_api::{Callbacks, Code, Envelope, Error, Kind, NoCallbacks, Prompt, Reply, Result};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A model that plays a role.
pub struct Player {
    pub pool: Pool,
    /// Prompts it works on at a time.
    pub at_once: usize,
    /// Whether it hears sound.
    pub hears: bool,
    /// A direct line to it next to its pool, if it is asked over a network.
    pub remote: Option<ModelClient>,
    /// Its registry name, and a hash of everything that its answers depend on.
    pub grader: Grader,
    /// What it is: adapter, settings, weights.
    pub identity: Value,
    /// What its card says about the engine: the service, what runs behind it, the name of the key's variable.
    pub engine: Value,
}

impl Player {
    /// Loads a model for a role. A service is asked at once whether it accepts the key and knows the model.
    pub fn load(
        model: &str,
        flags: &Flags,
        catalog: &Catalog,
        stop: &Arc<AtomicBool>,
    ) -> crate::failure::Result<Player> {
        let resolved = catalog.resolve(Kind::Model, model, &flags.for_name_alone(model))?;
        let (client, made) = resolved.model()?;
        let card = client.card()?;
        let identity = json!({ "model": resolved.identity, "kernels": kernels_of(&card) });
        let deadline = resolved.plugin.spec().deadline.unwrap_or(HELPERS_DEADLINE);
        let limits = Limits::of(&card, 1, None, Some(deadline));
        let remote = card.remote.is_some().then(|| client.clone());
        let copy = Copy {
            client,
            control: made.control,
        };
        Ok(Player {
            pool: Pool::start(model, vec![copy], &limits, stop.clone()),
            at_once: limits.at_once,
            hears: card.hears(),
            remote,
            grader: Grader {
                model: model.to_owned(),
                identity: hash_json(&identity),
            },
            identity: resolved.identity,
            engine: json!({ "host": card.remote, "engine": card.other.get("engine"), "fingerprint": card.fingerprint }),
        })
    }
}

/// The models of a command's roles, and its request to stop.
#[derive(Default, Clone)]
pub struct Roles {
    pub models: BTreeMap<String, Arc<Player>>,
    pub stop: Arc<AtomicBool>,
}

impl Roles {
    /// Loads the models of `ROLE=MODEL` texts.
    pub fn load(
        texts: &[String],
        flags: &Flags,
        catalog: &Catalog,
        stop: &Arc<AtomicBool>,
    ) -> crate::failure::Result<Roles> {
        let mut models = BTreeMap::new();
        for text in texts {
            let Some((role, model)) = text.split_once('=') else {
                return Err(Failure::usage(format!("expected `--role ROLE=MODEL`, got `{text}`")));
            };
            let player = Player::load(model, flags, catalog, stop)?;
            models.insert(role.to_owned(), Arc::new(player));
        }
        Ok(Roles {
            models,
            stop: stop.clone(),
        })
    }

    /// The same, with this model in a role.
    pub fn with(&self, role: &str, player: &Arc<Player>) -> Roles {
        let mut roles = self.clone();
        roles.models.insert(role.to_owned(), player.clone());
        roles
    }

    /// Whether a model that hears plays this role.
    pub fn hears(&self, role: &str) -> bool {
        self.models.get(role).is_some_and(|player| player.hears)
    }

    /// Asks the model of a role.
    pub fn generate(&self, role: &str, prompt: Prompt) -> Result<Reply> {
        let player = self.models.get(role).ok_or_else(|| {
            let message = format!("no model plays the role `{role}` that was asked for");
            Error::new(Code::SETTINGS, message).help(format!("give one with `--role {role}=MODEL`"))
        })?;
        let asked = player.pool.ask(prompt, &|| self.stop_asked());
        asked.map_err(|error| error.context(format!("the model of role `{role}` gave no answer")))
    }

    /// The models of these roles. A role without a model is listed as well: a model that plays it later changes the
    /// score.
    pub fn graders_of(&self, roles: &BTreeSet<String>) -> Graders {
        let player = |role: &String| self.models.get(role).map(|player| player.grader.clone());
        roles
            .iter()
            .map(|role| (role.clone(), player(role).unwrap_or_default()))
            .collect()
    }

    /// Who plays which role.
    pub fn graders(&self) -> Graders {
        let one = |(role, player): (&String, &Arc<Player>)| (role.clone(), player.grader.clone());
        self.models.iter().map(one).collect()
    }

    /// Why a service no longer answers, if it doesn't: its quota is used up, or it now refuses the key.
    pub fn given_up(&self) -> Option<Error> {
        let mut services = self.models.values().filter(|player| player.remote.is_some());
        services.find_map(|player| player.pool.failure())
    }

    /// How many threads should ask, so that no role's model waits for prompts.
    pub fn at_once(&self) -> usize {
        const MOST: usize = 256;
        let most = self.models.values().map(|player| player.at_once).max();
        most.unwrap_or(1).clamp(1, MOST)
    }

    /// How many threads should show cases to a judge, given how many it takes at a time.
    pub fn threads_for(&self, batch: u32) -> usize {
        (batch.clamp(1, 32) as usize).max(self.at_once())
    }
}

impl Callbacks for Roles {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        let Some(role) = what.strip_prefix("generate:") else {
            return NoCallbacks.ask(what, input);
        };
        let prompt = Prompt {
            clips: input.clips.clone(),
            ..input.read()?
        };
        Envelope::of(&self.generate(role, prompt)?)
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
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

    /// The models that were asked.
    pub fn graders(&self) -> Graders {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        self.roles.graders_of(&asked)
    }
}

impl Callbacks for Noted<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        if let Some(role) = what.strip_prefix("generate:") {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(role.to_owned());
        }
        self.roles.ask(what, input)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        self.roles.emit(what, note)
    }

    fn stop_asked(&self) -> bool {
        self.roles.stop_asked()
    }
}
