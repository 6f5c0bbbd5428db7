//! The judges of a command: judges by name, the judge that a task's card names, and models that answer for it.
//!
//! `--judge rules` is a judge of the registry. `--judge auto` is the one that suits the task. `--judge qwen3`, where
//! `qwen3` is only a model, is the judge that suits the task with this model in the role `judge`.

use crate::ask::roles::{Player, Roles};
use crate::catalog::{Catalog, Flags, Resolved};
use crate::failure::{Failure, Result};
use crate::registry::{Registry, nearest_hint};
use plugin_api::client::JudgeClient;
use plugin_api::{Kind, TaskCard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The role that a model plays when `--judge` names it.
pub const ROLE: &str = "judge";

/// The judge that stands for the one that suits the task.
pub const AUTO: &str = "auto";

/// The judge of a task whose card names none: whether a reply is right by the reference answer.
const ANY_TASK: &str = "rubric";

/// One name that `--judge` was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A judge of the registry.
    Judge(String),
    /// The judge that suits the task, with the command's roles.
    Auto,
    /// The judge that suits the task, answered by this model.
    Model(String),
}

impl Wanted {
    /// What these texts name, each once: `rules,gemini`, `all`.
    pub fn parse(registry: &Registry, given: &[String]) -> Result<Vec<Wanted>> {
        let mut wanted = Vec::new();
        let names = given.iter().flat_map(|text| text.split(',')).map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            let more = match name {
                "all" => registry
                    .names_in_all(Kind::Judge)
                    .into_iter()
                    .map(Wanted::Judge)
                    .collect(),
                AUTO => vec![Wanted::Auto],
                name => vec![Wanted::of(registry, name)?],
            };
            for one in more {
                if !wanted.contains(&one) {
                    wanted.push(one);
                }
            }
        }
        Ok(wanted)
    }

    fn of(registry: &Registry, name: &str) -> Result<Wanted> {
        if let Ok(judge) = registry.adapter(Kind::Judge, name) {
            return Ok(Wanted::Judge(judge.name.clone()));
        }
        if let Ok(model) = registry.adapter(Kind::Model, name) {
            return Ok(Wanted::Model(model.name.clone()));
        }
        let mut known = vec![AUTO.to_owned()];
        known.extend(registry.names(Kind::Judge));
        known.extend(registry.names(Kind::Model));
        let failure = Failure::usage(format!("the registry has neither a judge nor a model `{name}`"));
        Err(failure.help(nearest_hint(name, known.iter().map(String::as_str))))
    }

    /// As the command line has it.
    pub fn text(&self) -> &str {
        match self {
            Wanted::Judge(name) | Wanted::Model(name) => name,
            Wanted::Auto => AUTO,
        }
    }

    /// The model that plays the role `judge`.
    pub fn model(&self) -> Option<&str> {
        match self {
            Wanted::Model(name) => Some(name),
            Wanted::Judge(_) | Wanted::Auto => None,
        }
    }
}

/// An error for a `-J` setting of a judge that the command doesn't use.
pub fn check_flags(flags: &Flags, wanted: &[Wanted], registry: &Registry) -> Result<()> {
    let mut names: Vec<String> = wanted.iter().map(|one| one.text().to_owned()).collect();
    if wanted.iter().any(|one| !matches!(one, Wanted::Judge(_))) {
        names.extend(registry.names(Kind::Judge));
    }
    flags.check_names(Kind::Judge, &names)
}

/// A judge that is ready to rule on the answers to one task.
pub struct ReadyJudge {
    /// What its verdicts are called: `rules`, `match[gemini]`.
    pub name: String,
    pub client: JudgeClient,
    pub resolved: Resolved,
    pub model: Option<String>,
}

impl ReadyJudge {
    /// Makes the judges that a command wants for a task.
    pub fn prepare(wanted: &[Wanted], task: &TaskCard, flags: &Flags, catalog: &Catalog) -> Result<Vec<ReadyJudge>> {
        let suits = task.judge.as_deref().unwrap_or(ANY_TASK);
        let one = |wanted: &Wanted| {
            let judge = match wanted {
                Wanted::Judge(name) => name,
                Wanted::Auto | Wanted::Model(_) => suits,
            };
            let resolved = catalog.resolve(Kind::Judge, judge, &flags.of(judge))?;
            let client = resolved.judge()?;
            let card = client.card()?;
            if card.compares {
                let failure = Failure::usage(format!("judge `{judge}` compares two answers, and a run has one"));
                return Err(failure.help(format!(
                    "run both, then: `host compare RUN RUN --judge {}`",
                    wanted.model().unwrap_or("MODEL")
                )));
            }
            let model = wanted.model().map(str::to_owned);
            Ok(ReadyJudge {
                name: match &model {
                    Some(model) => format!("{judge}[{model}]"),
                    None => judge.to_owned(),
                },
                client,
                resolved,
                model,
            })
        };
        wanted.iter().map(one).collect()
    }

    /// An error when nobody plays a role that the judge asks: better now than once a sample.
    pub fn check_roles(&self, roles: &Roles) -> Result<()> {
        let asks = self.client.card()?.asks;
        match asks.iter().find(|role| !roles.models.contains_key(*role)) {
            None => Ok(()),
            Some(role) => {
                let message = format!(
                    "judge `{}` asks a model in the role `{role}`, and none plays it",
                    self.name
                );
                let hint = match role.as_str() {
                    ROLE => "name a model with `--judge MODEL` or `--role judge=MODEL`".to_owned(),
                    role => format!("name one with `--role {role}=MODEL`"),
                };
                Err(Failure::usage(message).help(hint))
            }
        }
    }
}

/// The models that `--judge` names, each loaded once, and the roles of each judging.
#[derive(Default)]
pub struct JudgeModels(BTreeMap<String, Arc<Player>>);

impl JudgeModels {
    /// Loads the models. A service is asked here whether it knows the key and the model: before any sample.
    pub fn load(wanted: &[Wanted], flags: &Flags, catalog: &Catalog, stop: &Arc<AtomicBool>) -> Result<JudgeModels> {
        let mut models = BTreeMap::new();
        for name in wanted.iter().filter_map(Wanted::model) {
            if !models.contains_key(name) {
                let player = Player::load(name, flags, catalog, stop);
                let player = player.map_err(|failure| failure.context(format!("`--judge {name}` cannot be asked")))?;
                models.insert(name.to_owned(), Arc::new(player));
            }
        }
        Ok(JudgeModels(models))
    }

    /// The roles that a judging asks.
    pub fn roles(&self, base: &Arc<Roles>, model: Option<&str>) -> Arc<Roles> {
        match model.and_then(|name| self.0.get(name)) {
            Some(player) => Arc::new(base.with(ROLE, player)),
            None => base.clone(),
        }
    }

    /// The roles that tasks ask: the first model that judges plays the judge for them, too, unless another one does.
    pub fn for_tasks(&self, base: Roles, wanted: &[Wanted]) -> Arc<Roles> {
        let first = wanted.iter().find_map(Wanted::model).and_then(|name| self.0.get(name));
        match first {
            Some(player) if !base.models.contains_key(ROLE) => Arc::new(base.with(ROLE, player)),
            _ => Arc::new(base),
        }
    }

    /// The models themselves.
    pub fn players(&self) -> impl Iterator<Item = &Arc<Player>> {
        self.0.values()
    }
}
