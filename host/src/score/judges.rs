//! The judges of a command: judges by name, the judge that a task's card names, and models that answer for it.
//!
//! `--judge rules` is a judge of the registry. `--judge auto` is the one that suits the task. `--judge qwen3`, where
//! `qwen3` is only a model, is the judge that suits the task with this model in the role `judge`.

use crate::ask::roles::{Player, Roles};
use crate::catalog::{Catalog, Flags, Resolved};
use crate::failure::{Failure, Result};
use crate::registry::{Registry, nearest_hint};
use plugin_api::client::JudgeClient;
use plugin_api::{Error, JudgeCard, Kind, TaskCard};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The role that a model plays when `--judge` names it.
pub const ROLE: &str = "judge";

/// The name for whichever judge suits the task.
pub const AUTO: &str = "auto";

/// The judge of a task whose card names none: whether a reply is right by the reference answer.
const ANY_TASK: &str = "rubric";

/// A member of a panel plays the role `judge/NAME`, where `NAME` is its model's name in the catalog.
const MEMBER: &str = "judge/";

/// The setting of judges that names a panel's members.
const PANEL: &str = "panel";

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
    /// Parses texts such as `rules,gemini` and `all`, and drops repetitions.
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

    /// The name on the command line.
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

/// An error for a `-J` setting of a judge that the command does not use.
pub fn check_flags(flags: &Flags, wanted: &[Wanted], registry: &Registry) -> Result<()> {
    let mut names: Vec<String> = wanted.iter().map(|one| one.text().to_owned()).collect();
    if wanted.iter().any(|one| !matches!(one, Wanted::Judge(_))) {
        names.extend(registry.names(Kind::Judge));
    }
    flags.check_names(Kind::Judge, &names)
}

/// The models that any judge's setting `panel` names, on the command line or in the registry.
pub fn panel_members(flags: &Flags, registry: &Registry) -> Vec<String> {
    let in_registry = registry.names_in_all(Kind::Judge).into_iter().filter_map(|name| {
        let spec = registry.adapter(Kind::Judge, &name).ok()?;
        Some(spec.settings.get(PANEL)?.value.as_str()?.to_owned())
    });
    let given = flags.values_of(PANEL).into_iter().chain(in_registry);
    let names = given.flat_map(|text| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>());
    names.collect()
}

/// A judge that is ready to rule on the answers to one task.
pub struct ReadyJudge {
    /// The name of its verdicts: `rules`, `match[gemini]`.
    pub name: String,
    pub client: JudgeClient,
    pub resolved: Resolved,
    /// The model that `--judge` names.
    model: Option<String>,
    /// The models of its panel.
    pub panel: Vec<String>,
}

impl ReadyJudge {
    /// Makes the judges of single answers that a command names, for a task.
    pub fn prepare(wanted: &[Wanted], task: &TaskCard, flags: &Flags, catalog: &Catalog) -> Result<Vec<ReadyJudge>> {
        let judges = ReadyJudge::prepare_any(wanted, task, flags, catalog)?;
        for (judge, wanted) in judges.iter().zip(wanted) {
            if judge.client.card()?.compares {
                let failure = Failure::usage(format!(
                    "judge `{}` compares two answers, but a run has one",
                    judge.resolved.spec.name
                ));
                return Err(failure.help(format!(
                    "run both, then: `host compare RUN RUN --judge {}`",
                    wanted.model().unwrap_or("MODEL")
                )));
            }
        }
        Ok(judges)
    }

    /// The same, including judges of pairs.
    pub fn prepare_any(
        wanted: &[Wanted],
        task: &TaskCard,
        flags: &Flags,
        catalog: &Catalog,
    ) -> Result<Vec<ReadyJudge>> {
        let suits = task.judge.as_deref().unwrap_or(ANY_TASK);
        let one = |wanted: &Wanted| {
            let judge = match wanted {
                Wanted::Judge(name) => name,
                Wanted::Auto | Wanted::Model(_) => suits,
            };
            let resolved = catalog.resolve(Kind::Judge, judge, &flags.of(judge))?;
            let client = resolved.judge()?;
            let card = client.card()?;
            let panel = members_of(&card);
            if let (Some(model), false) = (wanted.model(), panel.is_empty()) {
                let failure = Failure::usage(format!(
                    "`--judge {model}` names one model that judges, and `panel` names others"
                ));
                return Err(failure.help(format!(
                    "let the panel judge: `--judge {judge} -J panel={}`",
                    panel.join(",")
                )));
            }
            let model = wanted.model().map(str::to_owned);
            let answered_by = model.clone().or_else(|| (!panel.is_empty()).then(|| panel.join("+")));
            Ok(ReadyJudge {
                name: match answered_by {
                    Some(models) => format!("{judge}[{models}]"),
                    None => judge.to_owned(),
                },
                client,
                resolved,
                model,
                panel,
            })
        };
        wanted.iter().map(one).collect()
    }

    /// The judge's settings and plugin: what its verdicts depend on.
    pub fn identity(&self) -> Result<Value> {
        Ok(self.resolved.scorer_identity(&self.client.card()?.version))
    }

    /// An error if a role that the judge asks has no model: better now than once per sample.
    pub fn check_roles(&self, roles: &Roles) -> Result<()> {
        let asks = self.client.card()?.asks;
        match asks.iter().find(|role| !roles.models.contains_key(*role)) {
            None => Ok(()),
            Some(role) => {
                let message = format!(
                    "judge `{}` asks a model in the role `{role}`, which has no model",
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

/// The models of a judge's panel, by their names in the catalog.
pub fn members_of(card: &JudgeCard) -> Vec<String> {
    let names = card.asks.iter().filter_map(|role| role.strip_prefix(MEMBER));
    names.map(str::to_owned).collect()
}

/// The models that `--judge` and panels name, each loaded once, and the roles of each judging.
#[derive(Default)]
pub struct JudgeModels(BTreeMap<String, Arc<Player>>);

impl JudgeModels {
    /// Loads the models that `--judge` names and those of panels. A service is asked at once whether it accepts the key
    /// and knows the model, before any sample.
    pub fn load<'a>(
        wanted: &'a [Wanted],
        panels: impl IntoIterator<Item = &'a String>,
        flags: &Flags,
        catalog: &Catalog,
        stop: &Arc<AtomicBool>,
    ) -> Result<JudgeModels> {
        let mut models = BTreeMap::new();
        let of_judges = wanted.iter().filter_map(|one| Some((one.model()?, "--judge ")));
        let of_panels = panels.into_iter().map(|name| (name.as_str(), "panel="));
        for (name, flag) in of_judges.chain(of_panels) {
            if !models.contains_key(name) {
                let player = Player::load(name, flags, catalog, stop);
                let player = player.map_err(|failure| failure.context(format!("`{flag}{name}` cannot be asked")))?;
                models.insert(name.to_owned(), Arc::new(player));
            }
        }
        Ok(JudgeModels(models))
    }

    /// The roles that a judging asks.
    pub fn roles(&self, base: &Arc<Roles>, judge: &ReadyJudge) -> Arc<Roles> {
        self.roles_of(base, judge.model.as_deref(), &judge.panel)
    }

    /// The roles with this model as the judge, and these as a panel's members.
    pub fn roles_of(&self, base: &Arc<Roles>, model: Option<&str>, panel: &[String]) -> Arc<Roles> {
        let mut roles = base.clone();
        if let Some(player) = model.and_then(|name| self.0.get(name)) {
            roles = Arc::new(roles.with(ROLE, player));
        }
        for (name, player) in panel.iter().filter_map(|name| Some((name, self.0.get(name)?))) {
            roles = Arc::new(roles.with(&format!("{MEMBER}{name}"), player));
        }
        roles
    }

    /// The roles for tasks: the first judging model also plays the role `judge` for them, unless another one does.
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

/// What a judge's verdicts depend on besides the record and the models that it asks.
pub fn identity_of(judge: &Value, card: &JudgeCard) -> Value {
    let mut identity = json!({ "judge": judge, "version": card.version });
    if !card.other.is_empty() {
        // Template and parser: if either changes, verdicts are parsed again from the stored answers.
        identity["protocol"] = json!(card.other);
    }
    identity
}

/// The failure of a judge whose model no longer answers.
pub fn cut_short(judge: &str, error: Error) -> Failure {
    let failure = Failure::from(error).context(format!("judge `{judge}` can't go on"));
    match failure.error.help {
        None => failure.help("all verdicts so far are kept, and the same command goes on from here"),
        Some(_) => failure,
    }
}
